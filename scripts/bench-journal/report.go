package main

import (
	"fmt"
	"io"
)

func writeTable(w io.Writer, results []Result) {
	fmt.Fprintln(w, "| on | queue | phase | in flight | acks/s | of raw | per commit | flash B/B | flushes/commit | CPU µs | allocs | heap MiB |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | %s | %d | %.0f | %.0f %% | %.1f | %.2f | %.3f | %.2f | %.2f | %.1f |\n",
			r.Target, r.Queue, r.Phase, r.InFlight, r.Acks, 100*r.Acks/(r.Raw*float64(r.InFlight)), r.PerCommit,
			r.FlashRatio, r.Flushes, r.CPU, r.Allocs, r.Heap)
	}
}
