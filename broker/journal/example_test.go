package journal_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"holdfast/broker"
	"holdfast/broker/journal"
)

// A journal keeps messages for named readers, each until that reader has acknowledged it, and keys and values for as long
// as they are set. What is durable outlives the process and a power cut.
func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fs, err := journal.NewDirFS(filepath.Join(dir, "journal"))
	if err != nil {
		log.Fatal(err)
	}
	opts := journal.Options{FS: fs, MaxSize: 64 << 20}

	// One process at a time has a journal open. Open finds what earlier ones left.
	j, err := journal.Open(opts)
	if err != nil {
		log.Fatal(err)
	}

	// A reader is a place in the log under a name. It is owed only what names it, from now on, until it is removed.
	cloud, err := j.OpenReader("bridge/cloud")
	if err != nil {
		log.Fatal(err)
	}

	// An entry becomes durable as a whole: a message, to whom it is owed, and changes of keys. AppendDurable waits for the
	// disk. Append does not: Entry.Done is called later, and entries that come meanwhile share a commit.
	ctx := context.Background()
	for i, payload := range []string{"21.5", "21.6", "21.7"} {
		err := j.AppendDurable(ctx, journal.Entry{
			Message: &broker.Message{Topic: "cellar/temperature", Payload: []byte(payload), QoS: 1},
			Owed:    []journal.Owed{{Reader: cloud, QoS: 1}},
			Changes: []journal.Change{{Key: "readings", Value: fmt.Append(nil, i+1)}},
		})
		if err != nil {
			log.Fatal(err)
		}
	}

	// A reader that is attached hands its messages out in order. Next waits for one; TryNext does not.
	cloud.Attach()
	for range 2 {
		d, err := cloud.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %s %s\n", d.Seq, d.Message.Topic, d.Message.Payload)
		cloud.Ack(d.Seq) // in any order; on disk with the next commit, or soon
	}
	if err := j.Close(); err != nil {
		log.Fatal(err)
	}

	// What was not acknowledged is there again, and so is the state.
	if j, err = journal.Open(opts); err != nil {
		log.Fatal(err)
	}
	defer j.Close()
	if cloud, err = j.OpenReader("bridge/cloud"); err != nil {
		log.Fatal(err)
	}
	readings, _ := j.Get("readings")
	fmt.Printf("%s readings, %d to send\n", readings, cloud.Depth())
	cloud.Attach()
	d, ok, err := cloud.TryNext()
	if err != nil || !ok {
		log.Fatal(ok, err)
	}
	fmt.Printf("%d: %s %s\n", d.Seq, d.Message.Topic, d.Message.Payload)

	// A message that can never be delivered is dropped instead: Losses names it for good.
	cloud.Drop(&d, journal.ReasonRefused)
	for _, l := range j.Losses() {
		fmt.Printf("%s lost %d of %d to %d: %s\n", l.Reader, l.Count, l.First, l.Last, l.Reason)
	}
	fmt.Println(cloud.Depth(), "to send")
	// Output:
	// 1: cellar/temperature 21.5
	// 2: cellar/temperature 21.6
	// 3 readings, 1 to send
	// 3: cellar/temperature 21.7
	// bridge/cloud lost 1 of 3 to 3: refused
	// 0 to send
}
