package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"holdfast/broker/auth"
)

func passwdCommand() *cobra.Command {
	var file string
	var remove bool
	c := &cobra.Command{
		Use:   "passwd [-f FILE] [USER]",
		Short: "Hash a password, for a password file or for broker.users",
		Long: `Passwd asks for a password and hashes it with argon2id. With a file it makes or changes the user's line in
it; a running gateway takes it up within seconds. The file stays whose it is; a new one that root makes can be
read by the group of its directory, which is the service's in /etc/holdfast. Without a file it prints the hash, for password_hash in
the configuration. If stdin is no terminal the password is its first line.`,
		Example: `  holdfast passwd -f /etc/holdfast/passwords anna
  holdfast passwd > anna.hash            # password_hash: ${file:anna.hash}
  holdfast passwd -f /etc/holdfast/passwords --delete anna`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usageError{fmt.Errorf("holdfast passwd: unexpected argument %q: a password is never given on the command line", args[1])}
			case file != "" && len(args) == 0:
				return usageError{errors.New("holdfast passwd: whose password? give a user's name")}
			case remove && file == "":
				return usageError{errors.New("holdfast passwd: --delete needs -f FILE")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			user := ""
			if len(args) == 1 {
				user = args[0]
				if err := auth.CheckUser(user); err != nil {
					return usageError{err}
				}
			}
			if remove {
				existed, err := auth.DeletePassword(file, user)
				if err == nil && !existed {
					err = fmt.Errorf("%s: there is no user %q", file, user)
				}
				return err
			}
			password, err := askPassword(c.Context(), c.ErrOrStderr())
			if err != nil {
				return err
			}
			hash := auth.NewHash(password)
			if file == "" {
				fmt.Fprintln(c.OutOrStdout(), hash)
				return nil
			}
			existed, err := auth.SetPassword(file, user, hash)
			if err != nil {
				return err
			}
			what := "added"
			if existed {
				what = "changed"
			}
			fmt.Fprintf(c.ErrOrStderr(), "%s: %s %s\n", file, what, user)
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "password `FILE` to change; it is made if there is none")
	c.Flags().BoolVarP(&remove, "delete", "D", false, "remove the user")
	return c
}

// askPassword reads a password twice from the terminal, without showing it, or once from elsewhere.
func askPassword(ctx context.Context, prompt io.Writer) ([]byte, error) {
	x := openTerminal(prompt)
	if x == nil {
		data, err := readInput("-")
		if err != nil {
			return nil, err
		}
		return someText(firstLine(data))
	}
	return x.password(ctx)
}

func someText(password []byte) ([]byte, error) {
	switch {
	case len(password) == 0:
		return nil, usageError{errors.New("the password is empty")}
	case len(password) > 65535: // of an MQTT packet
		return nil, usageError{errors.New("the password is longer than 65535 bytes")}
	}
	return password, nil
}

// maxInput is the most bytes that are read as one message or password: the largest MQTT packet.
const maxInput = 256<<20 - 1

// readInput reads a file, or stdin for "-".
func readInput(name string) ([]byte, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	data, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = fmt.Errorf("%s: more than %d bytes, which no MQTT packet holds", name, maxInput)
	}
	return data, err
}

func firstLine(data []byte) []byte {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}
