package main

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (r *run) lease() {
	long := r.grant("lease.grant", 60)
	r.put("lease.put", "lease/a", "1", clientv3.WithLease(long))
	r.put("lease.put", "lease/b", "2", clientv3.WithLease(long))
	r.get("lease.get", "lease/", clientv3.WithPrefix())
	r.put("lease.keep", "lease/a", "3", clientv3.WithIgnoreLease(), clientv3.WithPrevKV())
	r.left("lease.left", long)
	r.step("lease.once", func(ctx context.Context) (string, error) {
		answer, err := r.client.KeepAliveOnce(ctx, long)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("ttl %d", answer.TTL), nil
	})
	r.step("lease.keep-alive", func(ctx context.Context) (string, error) {
		answers, err := r.client.KeepAlive(ctx, long)
		if err != nil {
			return "", err
		}
		answer, open := <-answers
		return fmt.Sprintf("open %t ttl %d", open, answer.TTL), nil
	})
	r.step("lease.list", func(ctx context.Context) (string, error) {
		answer, err := r.client.Leases(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d leases", len(answer.Leases)), nil
	})
	r.put("lease.detach", "lease/b", "4")
	r.left("lease.left-one", long)
	r.revoke("lease.revoke", long)
	r.get("lease.revoked", "lease/", clientv3.WithPrefix())
	r.revoke("lease.revoke-again", long)
	r.left("lease.left-none", long)
	r.step("lease.once-none", func(ctx context.Context) (string, error) {
		_, err := r.client.KeepAliveOnce(ctx, long)
		return "ok", err
	})
	r.put("lease.put-none", "lease/c", "1", clientv3.WithLease(long))

	// Expiry, seen as the event of the deletion.
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	short := r.grant("lease.short", 1)
	r.put("lease.short-put", "lease/short", "x", clientv3.WithLease(short))
	watch := r.client.Watch(ctx, "lease/short", clientv3.WithRev(r.now()+1), clientv3.WithPrevKV())
	r.events("lease.expired", watch, 1)
	r.get("lease.expired-key", "lease/short")
	r.left("lease.expired-left", short)
}

func (r *run) grant(name string, ttl int64) clientv3.LeaseID {
	var id clientv3.LeaseID
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.Grant(ctx, ttl)
		if err != nil {
			return "", err
		}
		id = answer.ID
		// A server may raise a short time to the one that it can keep.
		return fmt.Sprintf("ttl enough %t at %s", answer.TTL >= ttl, r.rev(answer.Revision)), nil
	})
	return id
}

func (r *run) left(name string, id clientv3.LeaseID) {
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		if err != nil {
			return "", err
		}
		kind := "gone"
		if answer.TTL >= 0 {
			kind = fmt.Sprintf("near %t", answer.TTL > answer.GrantedTTL-10)
		}
		// The order of the keys is not defined.
		sort.Slice(answer.Keys, func(a, b int) bool {
			return bytes.Compare(answer.Keys[a], answer.Keys[b]) < 0
		})
		return fmt.Sprintf("granted %d left %s keys %q", answer.GrantedTTL, kind, answer.Keys), nil
	})
}

func (r *run) revoke(name string, id clientv3.LeaseID) {
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.Revoke(ctx, id)
		if err != nil {
			return "", err
		}
		return "at " + r.rev(answer.Header.Revision), nil
	})
}

// The time after which a keep-alive of a lease of some seconds has been sent.
const keptAlive = 4 * time.Second
