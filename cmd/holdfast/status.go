package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/gateway/config"
	"holdfast/gateway/control"
	"holdfast/gateway/status"
)

// socket is where the gateway that runs is asked.
type socket struct {
	files []string
	path  string
}

func (s *socket) flags(c *cobra.Command) {
	filesFlag(c, &s.files)
	c.Flags().StringVar(&s.path, "socket", "", "control socket `PATH` of the gateway, instead of -c")
}

// client returns a client for the gateway. It does not need a configuration without mistakes: a gateway runs on
// although its files were spoilt, and client then uses the keys that are readable.
func (s *socket) client() (control.Client, error) {
	if s.path != "" {
		return control.Client{Paths: []string{s.path}}, nil
	}
	_, err := load(s.files)
	found := control.Find(config.Where(s.files, loadOptions()))
	if err == nil {
		return found, nil
	}
	for _, path := range found.Paths {
		if _, gone := os.Stat(path); gone == nil {
			return found, nil
		}
	}
	return control.Client{}, usageError{err}
}

func (s *socket) status(ctx context.Context) (*status.Status, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	st := new(status.Status)
	return st, c.Get(ctx, "/status", st)
}

func statusCommand() *cobra.Command {
	var s socket
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the running gateway is doing: sensors, outputs, clients, bridges, journal, machine",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := s.status(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(st)
			}
			p := page{colour: inColour(os.Stdout)}
			p.status(st)
			_, err = raw(c.OutOrStdout()).Write([]byte(strings.Join(p.lines(0), "\n") + "\n"))
			return err
		},
	}
	s.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "everything as one JSON object")
	return c
}

// inColour reports whether f is a terminal and the environment allows colours (https://no-color.org).
func inColour(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
