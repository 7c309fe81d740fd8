package main

import (
	"context"
	"fmt"
	"io"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (r *run) maintenance() {
	r.step("status", func(ctx context.Context) (string, error) {
		answer, err := r.client.Status(ctx, r.client.Endpoints()[0])
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("leader itself %t learner %t errors %q size known %t at %s",
			answer.Leader == answer.Header.MemberId, answer.IsLearner, answer.Errors,
			answer.DbSize > 0, r.rev(answer.Header.Revision)), nil
	})
	r.step("members", func(ctx context.Context) (string, error) {
		answer, err := r.client.MemberList(ctx)
		if err != nil {
			return "", err
		}
		line := ""
		for _, member := range answer.Members {
			line += fmt.Sprintf("%s itself %t peers %d clients %d learner %t ", member.Name,
				member.ID == answer.Header.MemberId, len(member.PeerURLs), len(member.ClientURLs),
				member.IsLearner)
		}
		return line, nil
	})
	r.step("alarms", func(ctx context.Context) (string, error) {
		answer, err := r.client.AlarmList(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d alarms", len(answer.Alarms)), nil
	})
	r.step("defragment", func(ctx context.Context) (string, error) {
		_, err := r.client.Defragment(ctx, os.Getenv("ENDPOINT"))
		return "ok", err
	})
	r.step("hash", func(ctx context.Context) (string, error) {
		first, err := r.client.HashKV(ctx, os.Getenv("ENDPOINT"), 0)
		if err != nil {
			return "", err
		}
		// The keys differ, for some hold ids of leases: only that it repeats can be compared.
		second, err := r.client.HashKV(ctx, os.Getenv("ENDPOINT"), 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("repeats %t compacted %s", first.Hash == second.Hash,
			r.rev(first.CompactRevision)), nil
	})
	r.step("snapshot", func(ctx context.Context) (string, error) {
		reader, err := r.client.Snapshot(ctx)
		if err != nil {
			return "", err
		}
		defer reader.Close()
		bytes, err := io.ReadAll(reader)
		if err != nil {
			return "", err
		}
		// The file is a multiple of a page, and its hash follows.
		magic := len(bytes) > 24 && bytes[16] == 0xed && bytes[17] == 0xda
		return fmt.Sprintf("a database %t with a hash %t", magic, len(bytes)%512 == 32), nil
	})
}

func (r *run) errors() {
	r.put("error.empty-key", "", "x")
	r.get("error.get-empty-key", "")
	r.delete("error.delete-empty-key", "")
	r.get("error.compacted", "watch/a", clientv3.WithRev(r.base+2))
	r.get("error.future", "watch/a", clientv3.WithRev(r.base+99999))
	r.put("error.lease", "error", "x", clientv3.WithLease(404))
	r.put("error.ignore-lease", "error-absent", "x", clientv3.WithIgnoreLease())
	r.compact("error.compact-old", r.base+1)
	r.compact("error.compact-future", r.base+99999)
	r.step("error.grant-long", func(ctx context.Context) (string, error) {
		_, err := r.client.Grant(ctx, 9_000_000_001)
		return "ok", err
	})
	large := make([]byte, 1600*1024)
	r.put("error.large", "error/large", string(large))
	r.step("error.member", func(ctx context.Context) (string, error) {
		_, err := r.client.MemberRemove(ctx, 404)
		return "ok", err
	})
	r.step("error.move-leader", func(ctx context.Context) (string, error) {
		_, err := r.client.MoveLeader(ctx, 404)
		return "ok", err
	})
}

func (r *run) compact(name string, revision int64) {
	r.step(name, func(ctx context.Context) (string, error) {
		_, err := r.client.Compact(ctx, revision)
		return "ok", err
	})
}
