package journal

import "context"

// AppendDurable appends e and returns when it is on disk, or the reason for which it will not be. After the end
// of ctx it returns at once, and e may become durable all the same. e.Done is not used.
func (j *Journal) AppendDurable(ctx context.Context, e Entry) error {
	done := make(committed, 1)
	e.Done = done
	if err := j.Append(e); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// committed has room for the outcome of one entry.
type committed chan error

// Committed implements Completion.
func (c committed) Committed(_ *Entry, _ uint64, err error) { c <- err }
