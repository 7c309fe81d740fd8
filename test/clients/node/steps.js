// Steps of the library `etcd3`, a line for each: no ids or times, and revisions counted from the
// first step. A line that begins with @ asks the driver for a fault.
"use strict";

const readline = require("node:readline");
const { Etcd3 } = require("etcd3");

const STEP_TIME_MAX_MS = 15000;
const options = { grpcOptions: { "grpc.max_reconnect_backoff_ms": 500 } };
const client = new Etcd3({ hosts: process.env.ENDPOINT, ...options });
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let base = 0;

const rev = (revision) => {
  const number = Number(revision);
  return number === 0 ? "0" : (number - base >= 0 ? "+" : "") + (number - base);
};

const say = (step, said) => console.log(`${step}: ${said}`);

async function ask(fault) {
  console.log(`@${fault}`);
  if ((await answers.next()).done) throw new Error("the driver is gone");
}

const pair = (kv) =>
  !kv
    ? "none"
    : `${kv.key}=${kv.value} created ${rev(kv.create_revision)} modified ${rev(kv.mod_revision)} ` +
      `version ${kv.version}${Number(kv.lease) === 0 ? "" : " leased"}`;

const pairs = (kvs) => `[${kvs.map(pair).join("; ")}]`;

const found = (answer) =>
  `at ${rev(answer.header.revision)} count ${answer.count} more ${answer.more} ${pairs(answer.kvs)}`;

const errorText = (error) => `error ${error.constructor.name} ${error.code ?? ""}: ${error.message}`;

async function step(name, call) {
  try {
    say(name, await within(call()));
  } catch (error) {
    say(name, errorText(error));
  }
}

// The result, or an error when the time of a step is over.
function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("out of time")), STEP_TIME_MAX_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const now = async () => Number((await client.get("now").exec()).header.revision);

const put = (name, key, value) =>
  step(name, async () => `at ${rev((await client.put(key).value(value).exec()).header.revision)}`);

async function kv() {
  for (let at = 0; at < 5; at++) await put("kv.put", `kv/${at}`, `v${9 - at}`);
  await step("kv.previous", async () => pair(await client.put("kv/3").value("new").getPrevious()));
  await step("kv.get", async () => found(await client.get("kv/3").exec()));
  await step("kv.absent", async () => client.get("kv/absent"));
  await step("kv.exists", async () => client.get("kv/3").exists());
  const all = () => client.getAll().prefix("kv/");
  await step("kv.prefix", async () => found(await all().exec()));
  await step("kv.limit", async () => found(await all().limit(2).exec()));
  await step("kv.count", () => all().count());
  await step("kv.keys", () => all().keys());
  for (const target of ["Key", "Version", "Create", "Mod", "Value"]) {
    for (const order of ["Ascend", "Descend"]) {
      await step(`kv.sort-${target}-${order}`, async () => found(await all().sort(target, order).exec()));
    }
  }
  await step("kv.old", async () => found(await all().revision(base + 2).exec()));
  await step("kv.modified", async () =>
    found(await all().minModRevision(base + 3).maxModRevision(base + 5).exec()));
  await step("kv.range", async () =>
    found(await client.getAll().inRange({ start: "kv/1", end: "kv/3" }).exec()));
  await step("kv.touch", async () => rev((await client.put("kv/3").touch()).header.revision));
  await step("kv.delete", async () => pairs(await client.delete().key("kv/4").getPrevious()));
  await step("kv.delete-prefix", async () => (await client.delete().prefix("kv/").exec()).deleted);
}

async function txn() {
  const outcome = (answer) =>
    `at ${rev(answer.header.revision)} succeeded ${answer.succeeded} ` +
    answer.responses.map((result) => result.response).join("; ");
  const create = () =>
    client.if("txn/a", "Create", "==", 0).then(client.put("txn/a").value("1"), client.get("txn/a"))
      .else(client.get("txn/a")).commit();
  await step("txn.create", async () => outcome(await create()));
  await step("txn.create-again", async () => outcome(await create()));
  await step("txn.and", async () =>
    outcome(await client.if("txn/a", "Value", "==", "1").and("txn/a", "Version", ">", 0)
      .and("txn/a", "Mod", "<", 1).then(client.put("txn/b").value("x"))
      .else(client.delete().key("txn/a")).commit()));
  await step("txn.twice", async () =>
    outcome(await client.if("txn/a", "Create", "==", 0)
      .then(client.put("txn/a").value("1"), client.put("txn/a").value("2")).commit()));
}

// Collects the events of a watcher.
function collect(watcher) {
  const told = { events: [], wake: () => {} };
  const add = (kind) => (kv, before) => {
    told.events.push(`${kind} ${pair(kv)} before ${pair(before)}`);
    told.wake();
  };
  watcher.on("put", add("PUT")).on("delete", add("DELETE"));
  watcher.on("error", (error) => {
    told.events.push(errorText(error));
    told.wake();
  });
  return told;
}

// Prints events until there are enough of them, and all that have come by then.
async function events(name, told, count) {
  try {
    await within((async () => {
      while (told.events.length < count) {
        await new Promise((wake) => { told.wake = wake; });
      }
    })());
  } catch (error) {
    say(name, `no more events after ${told.events.length} of ${count}`);
  }
  for (const event of told.events.splice(0)) say(name, event);
}

async function watch() {
  const start = await now();
  const from = (revision) => client.watch().prefix("watch/").startRevision(String(revision));
  const all = await from(start + 1).withPreviousKV().create();
  const deletes = await from(start + 1).only("delete").create();
  const [told, toldDeletes] = [collect(all), collect(deletes)];
  await put("watch.put", "watch/a", "1");
  await put("watch.put", "watch/b", "2");
  await client.delete().prefix("watch/");
  await put("watch.put", "watch/a", "3");
  await events("watch.prefix", told, 5);
  await events("watch.deletes", toldDeletes, 2);
  await step("watch.cancel", () => all.cancel());
  await deletes.cancel();
  const history = await from(start + 2).create();
  await events("watch.history", collect(history), 4);
  await history.cancel();
  await step("watch.compact", async () =>
    Object.keys(await client.kv.compact({ revision: start + 3 })).join());
  const compacted = client.watch().prefix("watch/").startRevision(String(start + 1)).watcher();
  await events("watch.compacted", collect(compacted), 1);
}

async function lease() {
  const long = client.lease(60, { autoKeepAlive: false });
  await step("lease.put", async () => rev((await long.put("lease/a").value("1").exec()).header.revision));
  await step("lease.get", async () => found(await client.getAll().prefix("lease/").exec()));
  await step("lease.keep-alive", async () => (await long.keepaliveOnce()).TTL);
  const id = await long.grant();
  await step("lease.left", async () => {
    const answer = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
    return `${answer.grantedTTL} ${Number(answer.TTL) > 50} ${answer.keys}`;
  });
  await step("lease.revoke", () => long.revoke());
  await step("lease.revoked", async () => found(await client.getAll().prefix("lease/").exec()));
  await step("lease.revoke-again", async () => client.leaseClient.leaseRevoke({ ID: id }));
  const watcher = await client.watch().key("lease/short").create();
  const told = collect(watcher);
  const { ID } = await client.leaseClient.leaseGrant({ TTL: 1 });
  await client.put("lease/short").value("x").lease(ID).exec();
  await events("lease.expired", told, 2);
  await watcher.cancel();
}

async function recipes() {
  const lock = client.lock("lock");
  await step("lock.acquire", async () => (await lock.acquire()) === lock);
  await step("lock.second", () => client.lock("lock").acquire());
  await step("lock.release", () => lock.release());
  await step("lock.do", () => client.lock("lock").do(() => "done"));

  const election = client.election("election", 10);
  const first = election.campaign("one");
  await step("election.first", async () => ((await first.wait()) === first) && election.leader());
  await step("election.proclaim", async () => (await first.proclaim("again"), election.leader()));
  const second = election.campaign("two");
  await step("election.resign", () => first.resign());
  await step("election.second", async () => ((await second.wait()) === second) && election.leader());
  await step("election.over", async () => (await second.resign(), election.leader()));

  for (const name of ["a", "b"]) await client.put(`stm/${name}`).value("100");
  const move = () => client.stm().transact(async (tx) => {
    const [a, b] = [await tx.get("stm/a").number(), await tx.get("stm/b").number()];
    await tx.put("stm/a").value(a - 1);
    await tx.put("stm/b").value(b + 1);
  });
  await step("stm", async () => {
    for (let at = 0; at < 10; at++) await move();
    return JSON.stringify(await client.getAll().prefix("stm/"));
  });
}

async function maintenance() {
  await step("status", async () => {
    const answer = await client.maintenance.status();
    return `leader ${answer.leader === answer.header.member_id} size ${Number(answer.dbSize) > 0}`;
  });
  await step("members", async () =>
    (await client.cluster.memberList({})).members
      .map((m) => `${m.name} ${m.peerURLs.length} ${m.clientURLs.length}`).join());
  await step("defragment", async () => Object.keys(await client.maintenance.defragment({})).join());
  await step("snapshot", async () => {
    const chunks = [];
    const stream = await client.maintenance.snapshot();
    await new Promise((done, failed) =>
      stream.on("data", (part) => chunks.push(part.blob)).on("end", done).on("error", failed));
    const bytes = Buffer.concat(chunks);
    return `a database ${bytes[16] === 0xed && bytes[17] === 0xda} with a hash ${bytes.length % 512 === 32}`;
  });
}

async function errors() {
  await step("error.empty-key", () => client.put("").value("x").exec());
  await step("error.lease", () => client.put("error").value("x").lease(404).exec());
  await step("error.compacted", () => client.get("watch/a").revision(base + 1).exec());
  await step("error.future", () => client.get("watch/a").revision(base + 99999).exec());
  await step("error.compact", () => client.kv.compact({ revision: 1 }));
  await step("error.large", () => client.put("error").value("x".repeat(1600 * 1024)).exec());
  await step("error.member", () => client.cluster.memberRemove({ ID: 404 }));
}

async function endpoints() {
  for (const [name, hosts] of [
    ["http", `http://${process.env.ENDPOINT}`],
    ["several", [process.env.DEAD, process.env.ENDPOINT]],
  ]) {
    const other = new Etcd3({ hosts, ...options });
    await step(`endpoint.${name}`, async () => {
      // A call to the dead endpoint fails; the next one goes to another.
      for (let tries = 0; ; tries++) {
        try {
          await other.put("endpoint").value(name).exec();
          return await other.get("endpoint");
        } catch (error) {
          if (tries === 5) throw error;
        }
      }
    });
    other.close();
  }
}

async function faults() {
  const relayed = new Etcd3({ hosts: process.env.RELAY, ...options });
  const start = await now();
  const told = collect(await relayed.watch().prefix("faults/").startRevision(String(start + 1)).create());
  await put("faults.before", "faults/before", "1");
  await events("faults.before", told, 1);
  await ask("cut faults/cut 5");
  await events("faults.cut", told, 5);
  await ask("restart");
  await step("faults.back", async () => {
    for (let tries = 0; ; tries++) {
      try {
        return (await client.put("faults/after").value("1").exec()) && "written";
      } catch (error) {
        if (tries === 50) throw error;
        await new Promise((done) => setTimeout(done, 100));
      }
    }
  });
  await events("faults.restart", told, 1);
  relayed.close();
}

async function main() {
  base = await now();
  for (const part of [endpoints, kv, txn, watch, lease, recipes, maintenance, errors, faults]) {
    await part();
  }
  say("end", "ok");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
