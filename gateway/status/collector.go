package status

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapes is how many requests for metrics may run at once. Others get 503.
const scrapes = 4

// MetricsHandler serves the status that look returns to Prometheus, with the metrics of the Go runtime and the process.
// Nothing is collected without a request. A metric that cannot be collected is left out and logged; the others
// are served.
func MetricsHandler(look func() Status, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(registry(look), promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: scrapes,
	})
}

func registry(look func() Status) *prometheus.Registry {
	c := &collector{look: look, families: families()}
	for _, f := range c.families {
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, f.labels, nil))
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// collector makes metrics of a Status when they are asked for, instead of counting everything a second time.
type collector struct {
	look     func() Status
	families []family
	descs    []*prometheus.Desc // of the families
}

func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.look()
	for i, f := range c.families {
		f.samples(&s, func(value float64, labels ...string) {
			for i, l := range labels {
				labels[i] = strings.ToValidUTF8(l, "\uFFFD")
			}
			m, err := prometheus.NewConstMetric(c.descs[i], f.kind, value, labels...)
			if err != nil {
				m = prometheus.NewInvalidMetric(c.descs[i], err)
			}
			to <- m
		})
	}
}
