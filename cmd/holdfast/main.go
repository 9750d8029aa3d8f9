// Command holdfast is the gateway and its tools.
//
// Exit codes: 0 success, 1 failure while working, 2 wrong command line or configuration, 3 (sub,
// verify-stream) fewer messages than wanted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"holdfast/gateway/logs"
)

// usageError is a mistake of the person who called: exit code 2.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	protect(root, os.Stdout, os.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(root.ErrOrStderr(), logs.Failure(err))
	var usage usageError
	if errors.As(err, &usage) {
		os.Exit(2)
	}
	if errors.Is(err, errTimeout) {
		os.Exit(3)
	}
	os.Exit(1)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "holdfast",
		Short:         "Edge gateway for Raspberry Pi sensors: an acknowledged message is on the disk",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: see '%s --help'", err, c.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		runCommand(), reloadCommand(), configCommand(), statusCommand(), topCommand(), initCommand(), checkCommand(), schemaCommand(), demoCommand(), tortureCommand(),
		sensorsCommand(), outputsCommand(), scanCommand(), readCommand(),
		doctorCommand(), journalCommand(), bridgeCommand(), passwdCommand(), pubCommand(), subCommand(), verifyStreamCommand(),
	)
	return root
}

// noArgs refuses arguments, naming them.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s: unexpected argument %q: see '%s --help'", c.CommandPath(), args[0], c.CommandPath())}
	}
	return nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
