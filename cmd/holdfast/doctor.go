package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/broker/journal"
	"holdfast/gateway/config"
	"holdfast/gateway/doctor"
	"holdfast/sensors/chips"
)

var errSick = errors.New("holdfast doctor: something does not work: see fail above")

func doctorCommand() *cobra.Command {
	var files []string
	var asJSON bool
	var archive string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps this device from working, and say what to do about it",
		Long: `Doctor checks configuration, service, buses and permissions, what is wired against what is configured, power,
clock, space, wear and speed of the card, ports, certificates and upstreams. Run it as the user of the
service: sudo -u holdfast holdfast doctor. It changes nothing; to each upstream it goes the way of holdfast bridge
test, beside a gateway that runs. The exit code is 1 if something fails, 0 if all is well or there are only
warnings.

--bundle also writes an archive for remote help: what doctor says, the configuration without
its secrets, the state of the journal without its messages, versions and logs. Look through it before you
send it.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, out := c.Context(), c.OutOrStdout()
			s := doctor.Subject{Files: files, Drivers: chips.Drivers()}
			s.Config, s.Err = load(files)
			if s.Config != nil {
				s.Lost, s.LostErr = unknownLosses(s.Config)
			}
			m := doctor.Here()
			findings := doctor.Examine(ctx, s, m)
			if asJSON {
				if err := doctor.PrintJSON(out, findings); err != nil {
					return err
				}
			} else {
				doctor.Print(out, findings)
			}
			if archive != "" {
				if err := writeBundle(ctx, archive, s, m, findings); err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "wrote %s: look through it before you send it (tar xzf)\n", archive)
			}
			if doctor.Worst(findings) == doctor.Fail {
				return errSick
			}
			return nil
		},
	}
	filesFlag(c, &files)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&archive, "bundle", "", "write a support archive to `FILE`, such as holdfast.tar.gz")
	return c
}

func writeBundle(ctx context.Context, archive string, s doctor.Subject, m doctor.Machine, findings []doctor.Finding) (err error) {
	f, err := os.OpenFile(archive, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: give --bundle another name", archive)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return doctor.Bundle(ctx, f, s, m, findings, version(), journalInfo(s.Config))
}

// journalInfo returns the output of `holdfast journal info`.
func journalInfo(cfg *config.Config) string {
	if cfg == nil {
		return "not known: the configuration has mistakes\n"
	}
	var b bytes.Buffer
	v, err := journal.Inspect(filepath.Join(cfg.DataDir, "journal"))
	if err == nil {
		err = printInfo(&b, v.Info(), v.Losses())
	}
	if err != nil {
		io.WriteString(&b, err.Error()+"\n")
	}
	return b.String()
}

// unknownLosses returns the readers of the journal, if there is one, that have lost an unknown number of messages.
func unknownLosses(cfg *config.Config) (lost []string, err error) {
	dir := filepath.Join(cfg.DataDir, "journal")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	v, err := journal.Inspect(dir)
	if err != nil {
		return nil, err
	}
	for _, reader := range unknownOf(v.Losses()) {
		lost = append(lost, unknownNumber(orDash(escaped(reader))))
	}
	return lost, nil
}
