package main

import (
	"context"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The way in which an API server of Kubernetes uses etcd: objects that are created and updated by
// comparing their modification revision, lists in pages at one revision, a watch with progress
// notifications that begins where the list ended, events under shared leases, and a compactor that
// agrees on its turn through a key.
func (r *run) kubernetes() {
	r.step("k8s.create", r.createPods)
	listed := r.listPods("k8s.list", 7)

	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(r.ctx))
	defer cancel()
	watch := r.client.Watch(ctx, "/registry/pods/", clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithProgressNotify(), clientv3.WithRev(listed+1))
	r.step("k8s.conflicts", r.conflictingUpdates)
	r.step("k8s.bookmark", func(ctx context.Context) (string, error) {
		return r.bookmark(ctx, watch)
	})
	r.updatePod("k8s.stale", "pod-03", listed-1000, "never")
	r.updatePod("k8s.update", "pod-03", r.modified("pod-03"), "node-a")
	r.deletePod("k8s.delete", "pod-04")
	r.events("k8s.watch", watch, 2)

	r.step("k8s.events", r.leasedEvents)
	r.step("k8s.compactor", r.compactor)
	r.get("k8s.expired-list", "/registry/pods/", clientv3.WithPrefix(), clientv3.WithLimit(2),
		clientv3.WithRev(listed))
	r.events("k8s.expired-watch", r.client.Watch(ctx, "/registry/pods/", clientv3.WithPrefix(),
		clientv3.WithRev(listed)), 1)
	r.listPods("k8s.relist", 5)

	// The write between two pages.
	r.events("k8s.relist-watch", watch, 1)

	// The connection is cut: the reflector's watch goes on where it was.
	r.ask("cut /registry/pods/cut %d", writtenInTheDark)
	r.events("k8s.cut", watch, writtenInTheDark)
	r.ask("restart")
	r.putAgain("k8s.after-restart", pod("pod-05"))
	r.events("k8s.after-restart-watch", watch, 1)
}

func pod(name string) string { return "/registry/pods/default/" + name }

func (r *run) createPods(ctx context.Context) (string, error) {
	created, refused := 0, 0
	for at := range 20 {
		key := pod(fmt.Sprintf("pod-%02d", at%18))
		answer, err := r.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, "pending")).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return "", err
		}
		if answer.Succeeded {
			created++
		} else {
			refused++
		}
	}
	return fmt.Sprintf("created %d refused %d", created, refused), nil
}

// Lists all pods in pages at the revision of the first page; returns that revision.
func (r *run) listPods(name string, page int64) int64 {
	key, end := "/registry/pods/", clientv3.GetPrefixRangeEnd("/registry/pods/")
	revision := int64(0)
	for {
		ctx, cancel := r.limit()
		answer, err := r.client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(page),
			clientv3.WithRev(revision))
		cancel()
		if err != nil {
			r.say(name, "%s", text(err))
			return revision
		}
		r.say(name, "%s", r.found(answer))
		if revision == 0 {
			revision = answer.Header.Revision
			// A write between two pages is in none of them.
			r.put(name+"-between", pod("zz-"+name), "late")
		}
		if !answer.More {
			return revision
		}
		key = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}

// Four controllers add to one object, each trying again when another was faster.
func (r *run) conflictingUpdates(ctx context.Context) (string, error) {
	const controllers, rounds = 4, 5
	key := "/registry/configmaps/counter"
	if _, err := r.client.Put(ctx, key, "0"); err != nil {
		return "", err
	}
	wait, failures := sync.WaitGroup{}, make(chan error, controllers)
	for range controllers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for done := 0; done < rounds; {
				answer, err := r.client.Get(ctx, key)
				if err != nil {
					failures <- err
					return
				}
				count := 0
				fmt.Sscan(string(answer.Kvs[0].Value), &count)
				update, err := r.client.Txn(ctx).
					If(clientv3.Compare(clientv3.ModRevision(key), "=", answer.Kvs[0].ModRevision)).
					Then(clientv3.OpPut(key, fmt.Sprint(count+1))).Else(clientv3.OpGet(key)).Commit()
				if err != nil {
					failures <- err
					return
				}
				if update.Succeeded {
					done++
				}
			}
		}()
	}
	wait.Wait()
	close(failures)
	for err := range failures {
		return "", err
	}
	answer, err := r.client.Get(ctx, key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("counted %s, version %d", answer.Kvs[0].Value, answer.Kvs[0].Version), nil
}

// A progress notification, which the API server turns into a bookmark. The writes between the pages
// of the list come first.
func (r *run) bookmark(ctx context.Context, watch clientv3.WatchChan) (string, error) {
	now, events := r.now(), 0
	if err := r.client.RequestProgress(clientv3.WithRequireLeader(r.ctx)); err != nil {
		return "", err
	}
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case response := <-watch:
			events += len(response.Events)
			if response.IsProgressNotify() && response.Header.Revision >= now {
				return fmt.Sprintf("after %d events", events), nil
			}
		}
	}
}

func (r *run) modified(name string) int64 {
	ctx, cancel := r.limit()
	defer cancel()
	answer, err := r.client.Get(ctx, pod(name))
	if err != nil || len(answer.Kvs) == 0 {
		return 0
	}
	return answer.Kvs[0].ModRevision
}

func (r *run) updatePod(step, name string, revision int64, value string) {
	r.try(step, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(pod(name)), "=", revision)},
		[]clientv3.Op{clientv3.OpPut(pod(name), value)}, []clientv3.Op{clientv3.OpGet(pod(name))})
}

func (r *run) deletePod(step, name string) {
	r.try(step,
		[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(pod(name)), "=", r.modified(name))},
		[]clientv3.Op{clientv3.OpDelete(pod(name))}, []clientv3.Op{clientv3.OpGet(pod(name))})
}

// Events of many objects share a lease; all of them go when it ends.
func (r *run) leasedEvents(ctx context.Context) (string, error) {
	lease, err := r.client.Grant(ctx, 3600)
	if err != nil {
		return "", err
	}
	for at := range 50 {
		key := fmt.Sprintf("/registry/events/default/event-%02d", at)
		if _, err := r.client.Put(ctx, key, "happened", clientv3.WithLease(lease.ID)); err != nil {
			return "", err
		}
	}
	left, err := r.client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return "", err
	}
	if _, err := r.client.Revoke(ctx, lease.ID); err != nil {
		return "", err
	}
	answer, err := r.client.Get(ctx, "/registry/events/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d keys under the lease, %d after it", len(left.Keys), answer.Count), nil
}

// Two API servers want to compact; a key with the time and the revision lets one of them.
func (r *run) compactor(ctx context.Context) (string, error) {
	const key = "compact_rev_key"
	line := ""
	for turn := range 3 {
		// The second server comes with the version that the first has already raised.
		expected := int64(turn)
		if turn == 1 {
			expected = 0
		} else if turn == 2 {
			expected = 1
		}
		now := r.now()
		answer, err := r.client.Txn(ctx).
			If(clientv3.Compare(clientv3.Version(key), "=", expected)).
			Then(clientv3.OpPut(key, fmt.Sprint(now-r.base))).Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf("turn %d won %t; ", turn, answer.Succeeded)
		if answer.Succeeded {
			if _, err := r.client.Compact(ctx, now); err != nil {
				return "", err
			}
		}
	}
	return line, nil
}
