package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func (r *run) recipes() {
	r.step("mutex", r.mutex)
	r.step("election", r.election)
	r.step("stm", r.stm)
	r.step("session", r.session)
}

// Four holders of one lock add to a number that nothing else protects.
func (r *run) mutex(ctx context.Context) (string, error) {
	const holders, rounds = 4, 5
	total, wait := 0, sync.WaitGroup{}
	failures := make(chan error, holders)
	for range holders {
		wait.Add(1)
		go func() {
			defer wait.Done()
			session, err := concurrency.NewSession(r.client, concurrency.WithTTL(10))
			if err != nil {
				failures <- err
				return
			}
			defer session.Close()
			for range rounds {
				mutex := concurrency.NewMutex(session, "mutex/")
				if err := mutex.Lock(ctx); err != nil {
					failures <- err
					return
				}
				read := total
				if _, err := r.client.Get(ctx, mutex.Key()); err != nil {
					failures <- err
				}
				total = read + 1
				if err := mutex.Unlock(ctx); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	wait.Wait()
	close(failures)
	for err := range failures {
		return "", err
	}
	answer, err := r.client.Get(ctx, "mutex/", clientv3.WithPrefix())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d, keys left %d", total, holders*rounds, answer.Count), nil
}

// Two candidates; the second leads once the first resigns.
func (r *run) election(ctx context.Context) (string, error) {
	var told []string
	first, err := concurrency.NewSession(r.client, concurrency.WithTTL(10))
	if err != nil {
		return "", err
	}
	defer first.Close()
	second, err := concurrency.NewSession(r.client, concurrency.WithTTL(10))
	if err != nil {
		return "", err
	}
	defer second.Close()
	one, two := concurrency.NewElection(first, "election/"), concurrency.NewElection(second, "election/")
	if err := one.Campaign(ctx, "one"); err != nil {
		return "", err
	}
	observed := two.Observe(ctx)
	told = append(told, "observed "+r.leader(next(observed)))
	if err := one.Proclaim(ctx, "one again"); err != nil {
		return "", err
	}
	told = append(told, "observed "+r.leader(next(observed)))
	won := make(chan error, 1)
	go func() { won <- two.Campaign(ctx, "two") }()
	if err := one.Resign(ctx); err != nil {
		return "", err
	}
	if err := <-won; err != nil {
		return "", err
	}
	told = append(told, "observed "+r.leader(next(observed)))
	answer, err := two.Leader(ctx)
	if err != nil {
		return "", err
	}
	told = append(told, "leader "+string(answer.Kvs[0].Value))
	return strings.Join(told, ", "), two.Resign(ctx)
}

func next[T any](answers <-chan T) any { return <-answers }

// What an observer was told. Since 3.7 it is told by reference.
func (r *run) leader(told any) string {
	var kvs []*mvccpb.KeyValue
	switch answer := told.(type) {
	case clientv3.GetResponse:
		kvs = answer.Kvs
	case *clientv3.GetResponse:
		kvs = answer.Kvs
	}
	if len(kvs) == 0 {
		return "nobody"
	}
	return string(kvs[0].Value)
}

// Transfers between accounts by software transactional memory: the sum stays.
func (r *run) stm(ctx context.Context) (string, error) {
	const accounts, movers, rounds = 4, 4, 10
	for at := range accounts {
		if _, err := r.client.Put(ctx, fmt.Sprint("stm/", at), "100"); err != nil {
			return "", err
		}
	}
	wait, failures := sync.WaitGroup{}, make(chan error, movers*rounds)
	for mover := range movers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for round := range rounds {
				from, to := fmt.Sprint("stm/", mover), fmt.Sprint("stm/", (mover+round)%accounts)
				_, err := concurrency.NewSTM(r.client, func(stm concurrency.STM) error {
					var a, b int
					fmt.Sscan(stm.Get(from), &a)
					fmt.Sscan(stm.Get(to), &b)
					if from != to {
						stm.Put(from, fmt.Sprint(a-round))
						stm.Put(to, fmt.Sprint(b+round))
					}
					return nil
				}, concurrency.WithAbortContext(ctx))
				if err != nil {
					failures <- err
				}
			}
		}()
	}
	wait.Wait()
	close(failures)
	for err := range failures {
		return "", err
	}
	answer, err := r.client.Get(ctx, "stm/", clientv3.WithPrefix())
	if err != nil {
		return "", err
	}
	line := ""
	for _, kv := range answer.Kvs {
		line += fmt.Sprintf("%s=%s ", kv.Key, kv.Value)
	}
	return line, nil
}

// A session keeps its lease alive past its time, and revokes it when it closes.
func (r *run) session(ctx context.Context) (string, error) {
	session, err := concurrency.NewSession(r.client, concurrency.WithTTL(2))
	if err != nil {
		return "", err
	}
	if _, err := r.client.Put(ctx, "session", "x", clientv3.WithLease(session.Lease())); err != nil {
		return "", err
	}
	wait, cancel := context.WithTimeout(ctx, keptAlive)
	defer cancel()
	state := "lost"
	select {
	case <-session.Done():
	case <-wait.Done():
		state = "alive"
	}
	before, err := r.client.Get(ctx, "session")
	if err != nil {
		return "", err
	}
	if err := session.Close(); err != nil {
		return "", err
	}
	after, err := r.client.Get(ctx, "session")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, keys %d, after %d", state, before.Count, after.Count), nil
}
