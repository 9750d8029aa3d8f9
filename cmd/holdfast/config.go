package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/gateway/control"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Show the configuration, or try another one in the running gateway",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("%s: want show, apply, confirm or rollback: see '%s --help'", c.CommandPath(), c.CommandPath())}
		},
	}
	c.AddCommand(configShowCommand(), configApplyCommand(), configConfirmCommand(), configRollbackCommand())
	return c
}

func configShowCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "show -c FILE",
		Short: "Print the configuration with its secrets hidden",
		Long: "Show prints every key that is given, with the value that counts; of several files as one, with the place\n" +
			"that each value is from. Keys that are not given have the defaults of the table in gateway/config.\n" +
			"References such as ${file:PATH} stay as they are.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := config.Merge(files, loadOptions())
			if err != nil {
				return usageError{err}
			}
			_, err = io.WriteString(c.OutOrStdout(), text)
			return err
		},
	}
	filesFlag(c, &files)
	return c
}

func configApplyCommand() *cobra.Command {
	var s socket
	var target string
	var within time.Duration
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put FILE in place of the configuration and apply it in the running gateway",
		Long: "Apply makes the running gateway check and apply FILE, and then puts it in the place of the\n" +
			"configuration; what was there before is kept beside it as *.old. A FILE with mistakes changes nothing.\n\n" +
			"With --confirm-within the new configuration is on trial. It is confirmed when everything that worked\n" +
			"before (bridges, sensors, outputs), and every new bridge, has worked for half of that time, at most\n" +
			"for a minute; or by `holdfast config confirm`. If not, or if the gateway ends meanwhile for whatever\n" +
			"reason, the gateway returns to the earlier one by itself. Apply waits for the outcome; the gateway\n" +
			"does not need it to.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s: want one FILE: see '%s --help'", c.CommandPath(), c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readInput(args[0])
			if err != nil {
				return usageError{err}
			}
			if c.Flags().Changed("confirm-within") && within <= 0 {
				return usageError{fmt.Errorf("--confirm-within: got %v, want a time such as 5m", within)}
			}
			gateway, err := s.client()
			if err != nil {
				return err
			}
			if target == "" {
				target = s.files[len(s.files)-1]
			}
			if target, err = filepath.Abs(target); err != nil {
				return err
			}
			a := applying{gateway: gateway, out: c.OutOrStdout(), files: []string{target}}
			return a.apply(c.Context(), reconfigure.Application{File: target, Text: text, Name: args[0], Within: within})
		},
	}
	s.flags(c)
	c.Flags().StringVar(&target, "target", "", "`FILE` of the configuration to replace, if there are several; the last of -c if it is not given")
	c.Flags().DurationVar(&within, "confirm-within", 0, "roll back after this `TIME` unless the new configuration proves itself or is confirmed; 1s to 24h")
	return c
}

func configConfirmCommand() *cobra.Command {
	var s socket
	c := &cobra.Command{
		Use:   "confirm",
		Short: "Keep the configuration that is on trial",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			gateway, err := s.client()
			if err != nil {
				return err
			}
			if err := gateway.Post(c.Context(), "/config/confirm", nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "confirmed")
			return err
		},
	}
	s.flags(c)
	return c
}

func configRollbackCommand() *cobra.Command {
	var s socket
	c := &cobra.Command{
		Use:     "rollback",
		Aliases: []string{"cancel"},
		Short:   "Go back to what was before the configuration that is on trial",
		Long: "Rollback ends a trial at once. After one that the gateway has rolled back by itself, it puts the earlier\n" +
			"file in place where the gateway may not write.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			gateway, err := s.client()
			if err != nil {
				return err
			}
			a := applying{gateway: gateway, out: c.OutOrStdout(), files: s.files}
			if err := a.rollback(c.Context()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, "rolled back")
			return err
		},
	}
	s.flags(c)
	return c
}

// applying is a configuration on its way to a gateway.
type applying struct {
	gateway control.Client
	out     io.Writer
	files   []string // that may be written to: who calls may be root, and the gateway is not
}

// mayWrite refuses a file that the caller has not named.
func (a applying) mayWrite(file string) error {
	for _, f := range a.files {
		if abs, err := filepath.Abs(f); err == nil && abs == file {
			return nil
		}
	}
	return fmt.Errorf("the gateway asks for %s to be written, and this command was called for %s: give it with -c if that is right", file, strings.Join(a.files, ", "))
}

func (a applying) apply(ctx context.Context, what reconfigure.Application) error {
	var done reconfigure.Applied
	if err := a.gateway.Post(ctx, "/config/apply", what, &done); err != nil {
		return fmt.Errorf("nothing is changed: %w", err)
	}
	err := a.mayWrite(done.File)
	if err == nil {
		err = reconfigure.Replace(done.File, what.Text, true)
	}
	if err != nil {
		var undone error
		if what.Within > 0 {
			undone = a.rollback(context.WithoutCancel(ctx))
		} else {
			undone = a.gateway.Post(context.WithoutCancel(ctx), "/reload", nil, new(control.Changed))
		}
		return errors.Join(fmt.Errorf("nothing is changed: the gateway could use it, but it cannot be put in place: %w", err), undone)
	}
	showChanges(a.out, done.Changes)
	fmt.Fprintf(a.out, "%s is replaced; what it held before is in %s.old\n", done.File, done.File)
	if what.Within == 0 {
		return nil
	}
	fmt.Fprintf(a.out, "on trial for %v: holdfast config confirm keeps it, holdfast config rollback does not\n", what.Within)
	return a.wait(ctx, what.Within)
}

const (
	askEvery = time.Second
	// lenience is how long the outcome of a trial may be late: the gateway may be starting.
	lenience = time.Minute
)

// wait prints the progress of a trial and its outcome.
func (a applying) wait(ctx context.Context, within time.Duration) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	said := ""
	for end := time.Now().Add(within + lenience); ; {
		var st status.Status
		err := a.gateway.Get(ctx, "/status", &st)
		now := "waiting"
		switch t := st.Config.Trial; {
		case err != nil:
			now = err.Error()
		case t == nil:
			return errors.New("the gateway was started again and knows of no trial: look at holdfast status")
		case t.Outcome == status.Confirmed:
			_, err := fmt.Fprintln(a.out, "confirmed:", strings.Map(printable, t.Reason))
			return err
		case t.Outcome == status.RolledBack:
			err := errors.New("rolled back: " + strings.Map(printable, t.Reason)) // an upstream may have a say in it
			if t.Unwritten {
				err = errors.Join(err, a.rollback(ctx))
			}
			return err
		case len(t.Missing) > 0:
			now = "waiting: " + strings.Map(printable, strings.Join(t.Missing, "; "))
		}
		if now != said {
			fmt.Fprintln(a.out, now)
			said = now
		}
		if time.Now().After(end) {
			return errors.New("what became of the configuration is not known: look at holdfast status")
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(a.out, "the trial goes on without this command")
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// rollback makes the gateway return to the earlier configuration, and writes the file if the gateway may not.
func (a applying) rollback(ctx context.Context) error {
	var done reconfigure.Undone
	if err := a.gateway.Post(ctx, "/config/rollback", nil, &done); err != nil {
		return err
	}
	showChanges(a.out, done.Changes)
	if done.Earlier == "" {
		return nil
	}
	err := a.mayWrite(done.File)
	if err == nil {
		err = reconfigure.PutBack(done.File, done.Earlier)
	}
	if err != nil {
		return fmt.Errorf("the gateway has gone back, but its file has not: %w", err)
	}
	return a.gateway.Post(ctx, "/reload", nil, new(control.Changed))
}
