package main

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Prints events until there are enough of them, and anything else that comes meanwhile.
func (r *run) events(name string, watch clientv3.WatchChan, count int) {
	ctx, cancel := r.limit()
	defer cancel()
	for seen := 0; seen < count; {
		select {
		case <-ctx.Done():
			r.say(name, "no more events after %d of %d", seen, count)
			return
		case response, open := <-watch:
			if !open {
				r.say(name, "closed")
				return
			}
			if response.Err() != nil {
				r.say(name, "canceled %t compacted at %s %s", response.Canceled,
					r.rev(response.CompactRevision), text(response.Err()))
				return
			}
			for _, event := range response.Events {
				seen++
				r.say(name, "%s", r.event(event))
			}
		}
	}
}

func (r *run) watch() {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	put := func(key, value string) { r.put("watch.put", key, value) }
	put("watch/a", "0")
	start := r.now()

	prefix := r.client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithRev(start+1))
	key := r.client.Watch(ctx, "watch/b", clientv3.WithRev(start+1))
	deletes := r.client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithFilterPut(),
		clientv3.WithRev(start+1))
	created := r.client.Watch(ctx, "watch/c", clientv3.WithCreatedNotify(), clientv3.WithRev(start+1))
	if response, open := <-created; open {
		r.say("watch.created", "created %t events %d", response.Created, len(response.Events))
	}
	put("watch/a", "1")
	put("watch/b", "2")
	r.delete("watch.delete", "watch/", clientv3.WithPrefix())
	put("watch/c", "3")
	r.try("watch.txn", nil,
		[]clientv3.Op{clientv3.OpPut("watch/a", "4"), clientv3.OpPut("watch/b", "5")}, nil)
	r.events("watch.prefix", prefix, 7)
	r.events("watch.key", key, 3)
	r.events("watch.deletes", deletes, 2)
	r.events("watch.created-events", created, 1)

	// From the past, and from before a compaction.
	r.events("watch.history", r.client.Watch(ctx, "watch/", clientv3.WithPrefix(),
		clientv3.WithRev(r.base+1)), 8)
	r.step("watch.compact", func(ctx context.Context) (string, error) {
		answer, err := r.client.Compact(ctx, start+2)
		if err != nil {
			return "", err
		}
		return "at " + r.rev(answer.Header.Revision), nil
	})
	r.events("watch.compacted", r.client.Watch(ctx, "watch/", clientv3.WithPrefix(),
		clientv3.WithRev(start)), 1)
	r.events("watch.at-compaction", r.client.Watch(ctx, "watch/", clientv3.WithPrefix(),
		clientv3.WithRev(start+2)), 1)

	// From a revision to come, with a fragmented stream of large events before it.
	next := r.client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(r.now()+2))
	put("watch/before", "not seen")
	put("watch/after", "seen")
	r.events("watch.future", next, 1)

	// A canceled watch ends; another on the same stream goes on.
	one, stop := context.WithCancel(ctx)
	canceled := r.client.Watch(one, "watch/x")
	other := r.client.Watch(ctx, "watch/x", clientv3.WithRev(r.now()+1))
	stop()
	for range canceled {
	}
	put("watch/x", "1")
	r.events("watch.other", other, 1)

	r.step("watch.progress", func(ctx context.Context) (string, error) {
		return r.progress(ctx)
	})
}

// Asks for progress and waits for the answer.
func (r *run) progress(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := r.client.Watch(ctx, "progress", clientv3.WithCreatedNotify())
	<-watch
	if err := r.client.RequestProgress(ctx); err != nil {
		return "", err
	}
	response, open := <-watch
	return fmt.Sprintf("open %t progress %t at the current revision %t", open,
		response.IsProgressNotify(), response.Header.Revision == r.now()), nil
}

// The current revision.
func (r *run) now() int64 {
	ctx, cancel := r.limit()
	defer cancel()
	answer, err := r.client.Get(ctx, "now")
	if err != nil {
		r.say("now", "%s", text(err))
		return 0
	}
	return answer.Header.Revision
}
