"""Steps of the library `aetcd`, a line for each."""

import asyncio
import inspect
import io

import aetcd

from lines import Base, ask, error_text, host_and_port, say

STEP_TIME_MAX = 15


class Steps:
    def __init__(self, client):
        self.client = client
        self.base = None

    async def step(self, name, call):
        try:
            result = call()
            if inspect.isawaitable(result):
                result = await result
            say(name, result)
        except Exception as error:
            say(name, error_text(error))

    async def now(self):
        """The current revision, which the library tells only with a range."""
        return (await self.client.get_prefix(b"now")).header.revision

    async def begin(self):
        self.base = Base(await self.now())

    async def put(self, name, key, value, **options):
        async def call():
            answer = await self.client.put(key, value, **options)
            return f"at {self.base.rev(answer.header.revision)} before {self.base.pair(answer.prev_kv)}"

        await self.step(name, call)

    async def found(self, answer):
        answer = await answer
        return (
            f"at {self.base.rev(answer.header.revision)} count {answer.count} more {answer.more} "
            f"{self.base.pairs(answer.kvs)}"
        )

    async def prefix(self, name, prefix, **options):
        await self.step(name, lambda: self.found(self.client.get_prefix(prefix, **options)))

    async def kv(self):
        client = self.client
        for at in range(5):
            await self.put("kv.put", f"kv/{at}".encode(), f"v{9 - at}".encode())
        await self.put("kv.again", b"kv/3", b"new", prev_kv=True)

        async def get(key):
            return self.base.pair(await client.get(key))

        await self.step("kv.get", lambda: get(b"kv/3"))
        await self.step("kv.absent", lambda: get(b"kv/absent"))
        await self.prefix("kv.prefix", b"kv/")
        await self.prefix("kv.keys", b"kv/", keys_only=True)
        for target in ("key", "version", "create", "mod", "value"):
            for order in ("ascend", "descend"):
                await self.prefix(f"kv.sort-{target}-{order}", b"kv/", sort_order=order,
                                  sort_target=target)
        await self.step("kv.range", lambda: self.found(client.get_range(b"kv/1", b"kv/4")))
        await self.step("kv.replace", lambda: client.replace(b"kv/3", b"new", b"newer"))
        await self.step("kv.replace-again", lambda: client.replace(b"kv/3", b"new", b"x"))

        async def delete(key):
            answer = await client.delete(key, prev_kv=True)
            return "nothing" if answer is None else self.base.pair(answer.prev_kv)

        await self.step("kv.delete", lambda: delete(b"kv/4"))
        await self.step("kv.delete-absent", lambda: delete(b"kv/4"))

        async def delete_prefix():
            answer = await client.delete_prefix(b"kv/", prev_kv=True)
            return f"{answer.deleted} {self.base.pairs(answer.prev_kvs)}"

        await self.step("kv.delete-prefix", delete_prefix)

    async def txn(self):
        t = self.client.transactions

        async def run(name, compare, success, failure):
            async def call():
                succeeded, results = await self.client.transaction(compare, success, failure)
                return f"succeeded {succeeded} " + "; ".join(map(self.result, results))

            await self.step(name, call)

        await run("txn.create", [t.create(b"txn/a") == 0],
                  [t.put(b"txn/a", b"1"), t.get(b"txn/a")], [])
        await run("txn.create-again", [t.create(b"txn/a") == 0], [], [t.get(b"txn/a")])
        await run("txn.version", [t.version(b"txn/a") > 0, t.value(b"txn/a") == b"1"],
                  [t.put(b"txn/a", b"2"), t.put(b"txn/b", b"3")], [])
        await run("txn.mod", [t.mod(b"txn/a") < 1], [], [t.delete(b"txn/b", prev_kv=True)])
        await run("txn.twice", [], [t.put(b"txn/a", b"1"), t.put(b"txn/a", b"2")], [])

    def result(self, result):
        if isinstance(result, list):
            return str([(value.decode(), self.base.pair(kv)) for value, kv in result])
        kind = result.WhichOneof("response")
        if kind == "response_delete_range":
            deleted = result.response_delete_range
            return f"deleted {deleted.deleted} {self.base.pairs(deleted.prev_kvs)}"
        return kind

    async def events(self, name, watch, count):
        """Prints events until there are enough, or an error comes, or time is over."""
        for seen in range(count):
            try:
                event = await asyncio.wait_for(anext(watch), STEP_TIME_MAX)
            except TimeoutError:
                return say(name, f"no more events after {seen} of {count}")
            except Exception as error:
                compacted = getattr(error, "compacted_revision", None)
                return say(name, f"error {type(error).__name__}",
                           self.base.rev(compacted) if compacted else "")
            say(name, event.kind, self.base.pair(event.kv), "before", self.base.pair(event.prev_kv))

    async def watch(self):
        client, start = self.client, await self.now()
        prefix = await client.watch_prefix(b"watch/", start_revision=start + 1, prev_kv=True)
        one = await client.watch(b"watch/b", start_revision=start + 1)
        deletes = await client.watch_prefix(b"watch/", start_revision=start + 1,
                                            kind=aetcd.EventKind.DELETE)
        await self.put("watch.put", b"watch/a", b"1")
        await self.put("watch.put", b"watch/b", b"2")
        await client.delete(b"watch/a")
        await self.put("watch.put", b"watch/a", b"3")
        await self.events("watch.prefix", aiter(prefix), 4)
        await self.events("watch.one", aiter(one), 1)
        await self.events("watch.deletes", aiter(deletes), 1)
        for watch in (prefix, one, deletes):
            await watch.cancel()
        history = await client.watch_prefix(b"watch/", start_revision=start + 2)
        await self.events("watch.history", aiter(history), 3)
        await history.cancel()
        await self.step("watch.compact", lambda: client.compact(start + 2))

        async def compacted():
            watch = await client.watch_prefix(b"watch/", start_revision=start)
            await self.events("watch.compacted-events", aiter(watch), 1)

        await self.step("watch.compacted", compacted)

    async def lease(self):
        client = self.client
        lease = await client.lease(60)
        say("lease.grant", lease.ttl)
        await self.put("lease.put", b"lease/a", b"1", lease=lease)
        await self.prefix("lease.get", b"lease/")

        async def left():
            near = await lease.remaining_ttl() > 50
            return await lease.granted_ttl(), near, list(await lease.keys())

        async def refresh():
            return (await lease.refresh()).TTL

        await self.step("lease.left", left)
        await self.step("lease.refresh", refresh)
        await self.step("lease.revoke", lease.revoke)
        await self.prefix("lease.revoked", b"lease/")
        await self.step("lease.revoke-again", lease.revoke)
        await self.step("lease.left-none", lease.remaining_ttl)
        await self.step("lease.refresh-none", refresh)
        short = await client.lease(1)
        watch = await client.watch(b"lease/short", prev_kv=True)
        await self.put("lease.short", b"lease/short", b"x", lease=short)
        await self.events("lease.expired", aiter(watch), 2)

    async def lock(self):
        first, second = self.client.lock(b"name", ttl=20), self.client.lock(b"name", ttl=20)
        await self.step("lock.first", first.acquire)
        await self.step("lock.is-first", first.is_acquired)
        await self.step("lock.second", lambda: second.acquire(timeout=0))
        waiting = asyncio.create_task(second.acquire(timeout=STEP_TIME_MAX))
        await self.step("lock.release", first.release)
        await self.step("lock.second-now", lambda: waiting)
        await self.step("lock.release-second", second.release)

    async def maintenance(self):
        client = self.client

        async def status():
            status = await client.status()
            return status.leader.name, status.db_size > 0

        async def members():
            return [(m.name, len(m.peer_urls), len(m.client_urls)) async for m in client.members()]

        async def snapshot():
            file = io.BytesIO()
            await client.snapshot(file)
            data = file.getvalue()
            magic = data[16:18] == bytes([0xED, 0xDA])
            return f"a database {magic} with a hash {len(data) % 512 == 32}"

        await self.step("status", status)
        await self.step("members", members)
        await self.step("defragment", client.defragment)
        await self.step("snapshot", snapshot)

    async def errors(self):
        client = self.client
        await self.put("error.empty-key", b"", b"x")
        await self.put("error.lease", b"error", b"x", lease=404)
        await self.step("error.compacted", lambda: client.compact(1))
        await self.step("error.future", lambda: client.compact(99999))
        await self.step("error.large", lambda: client.put(b"error/large", b"x" * 1600 * 1024))
        await self.step("error.member", lambda: client.remove_member(404))
        await self.step("error.grant", lambda: client.lease(9_000_000_001))

    async def faults(self):
        """This library reports a broken stream; its users watch again from where they were."""
        host, port = host_and_port("RELAY")
        options = {"grpc.max_reconnect_backoff_ms": 500, "grpc.initial_reconnect_backoff_ms": 100}
        async with aetcd.Client(host=host, port=port, timeout=STEP_TIME_MAX, options=options) as client:
            start = await self.now() + 1
            watch = await client.watch_prefix(b"faults/", start_revision=start)
            await self.put("faults.before", b"faults/before", b"1")
            await self.events("faults.before", aiter(watch), 1)
            await asyncio.to_thread(ask, "cut faults/cut 5")
            say("faults.broken", await self.is_broken(watch))
            watch = await self.again(client, start + 1)
            await self.events("faults.cut", aiter(watch), 5)
            await asyncio.to_thread(ask, "restart")
            say("faults.broken", await self.is_broken(watch))
            # The connection may still wait before it tries again.
            put = await retried(lambda: self.client.put(b"faults/after", b"1"))
            say("faults.after", self.base.rev(put.header.revision))
            await self.events("faults.restart", aiter(await self.again(client, start + 6)), 1)

    async def is_broken(self, watch):
        try:
            await asyncio.wait_for(anext(aiter(watch)), STEP_TIME_MAX)
        except TimeoutError:
            return False
        except Exception:
            return True
        return False

    async def again(self, client, revision):
        return await retried(lambda: client.watch_prefix(b"faults/", start_revision=revision))


async def retried(call):
    """The result of a call that fails until the server is back."""
    for _ in range(100):
        try:
            return await call()
        except Exception:
            await asyncio.sleep(0.1)
    raise TimeoutError("the server does not come back")


async def main():
    host, port = host_and_port("ENDPOINT")
    async with aetcd.Client(host=host, port=port, timeout=STEP_TIME_MAX) as client:
        steps = Steps(client)
        await steps.begin()
        for part in (steps.kv, steps.txn, steps.watch, steps.lease, steps.lock, steps.maintenance,
                     steps.errors, steps.faults):
            await part()
    say("end", "ok")


asyncio.run(main())
