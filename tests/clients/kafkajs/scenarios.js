// kafkajs: one function per scenario; `scenarios.js BOOTSTRAP SCENARIO...` runs them, all at once.
//
// A scenario fails by what it throws, and uses topics of its own. kafkajs has one balancer, which is eager, and no static
// members; it assigns no partitions but in a group.
"use strict";

const { deepStrictEqual: same, ok, rejects } = require("node:assert");
const { ConfigResourceTypes } = require("kafkajs");

const { CODECS, Ledger, Member, byPartition, create, readInGroup, sleep, spread, withAdmin, write } = require("./clients.js");
const { OtherProcess, eventually, main, say } = require("./harness.js");

// The session timeout of members that are going to miss it. All others have the client's default, far longer.
const SESSION_TIMEOUT_MS = 2_000;

const from = (first, end) => Array.from({ length: end - first }, (_, index) => first + index);
const text = (bytes) => (bytes === null ? null : bytes.toString());
const shown = (bytes) => text(bytes) ?? "null";

async function every_codec_comes_back() {
  const topic = await create();
  const expected = [];
  for (const codec of Object.keys(CODECS)) {
    const messages = from(0, 200).map((index) => ({
      key: index % 10 === 0 ? null : `${codec}-${index}`,
      value: index % 10 === 1 ? null : `${codec} ${index} `.repeat(50),
      headers: { codec },
    }));
    const [acknowledged] = await write(topic, messages, codec);
    same(Number(acknowledged.baseOffset), expected.length);
    expected.push(...messages);
  }
  const { read } = await readInGroup(topic, `reader-of-${topic}`, expected.length);
  same(read.map((message) => Number(message.offset)), from(0, expected.length));
  read.forEach((message, index) => {
    const sent = expected[index];
    same([text(message.key), text(message.value)], [sent.key, sent.value]);
    same(text(message.headers.codec), sent.headers.codec);
  });
}

async function topics_are_created_grown_and_deleted() {
  const topic = await create(2);
  await withAdmin(async (admin) => {
    const refused = async (type, call) => {
      const isIt = (error) => error.type === type || error.errors.some((one) => one.type === type);
      await rejects(call, (error) => isIt(error) || Promise.reject(error));
    };
    ok(!(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] })), "made twice");
    await refused("INVALID_TOPIC_EXCEPTION", () => admin.createTopics({ topics: [{ topic: "a/b" }] }));
    const three = [{ topic: `${topic}-3`, replicationFactor: 3 }];
    await refused("INVALID_REPLICATION_FACTOR", () => admin.createTopics({ topics: three }));
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] });
    // A broker may tell of a decision a moment after it was made.
    const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions;
    await eventually(async () => (await partitions()).length === 5, "the topic has not grown");
    await refused("INVALID_PARTITIONS", () => admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] }));
    await admin.deleteTopics({ topics: [topic] });
    await eventually(async () => !(await admin.listTopics()).includes(topic), "the topic is still there");
  });
}

async function configs_are_described_and_altered() {
  const name = await create();
  const type = ConfigResourceTypes.TOPIC;
  await withAdmin(async (admin) => {
    const becomes = (value) =>
      eventually(async () => {
        const asked = [{ type, name, configNames: ["retention.ms"] }];
        const described = await admin.describeConfigs({ resources: asked, includeSynonyms: false });
        return described.resources[0].configEntries[0].configValue === value;
      }, `retention.ms is not ${value}`);
    const alter = (value) => {
      const configEntries = [{ name: "retention.ms", value }];
      return admin.alterConfigs({ validateOnly: false, resources: [{ type, name, configEntries }] });
    };
    await becomes("604800000");
    await alter("3600000");
    await becomes("3600000");
    await rejects(() => alter("a while"));
  });
}

async function share(one, other, partitions) {
  await eventually(() => {
    const both = new Set([...one.assigned, ...other.assigned]);
    return one.assigned.length === partitions / 2 && other.assigned.length === partitions / 2 && both.size === partitions;
  }, "they do not share");
}

async function members_of_a_group_share_the_partitions_and_take_over() {
  const topic = await create(4);
  const group = `group-of-${topic}`;
  await spread(topic, 4, 10);
  const first = await Member.join(topic, group);
  await eventually(() => first.read.length === 40, "not everything was read");
  const second = await Member.join(topic, group);
  await share(first, second, 4);
  await first.leave();
  await eventually(() => second.assigned.length === 4, "nobody takes over");
  await spread(topic, 4, 1);
  await eventually(() => second.read.length >= 4, "later messages are not read");
  await second.leave();
  same(second.read.map((message) => message.offset), ["10", "10", "10", "10"], "what was committed is read again");
}

// A process of its own, to be stopped and killed. It says how many partitions it has when that changes.
async function beAMember(topic, group) {
  const member = await Member.join(topic, group, { sessionTimeout: SESSION_TIMEOUT_MS });
  for (let said = 0; ; await sleep(20)) {
    if (member.assigned.length !== said) {
      said = member.assigned.length;
      console.log(said);
    }
  }
}

async function a_member_that_stalls_and_at_last_crashes_is_replaced() {
  const topic = await create(4);
  const group = `group-of-${topic}`;
  const steady = await Member.join(topic, group);
  await eventually(() => steady.assigned.length === 4, "it has not all partitions");
  const unsteady = new OtherProcess("member", topic, group);
  const both = () => steady.assigned.length === 2 && unsteady.last === "2";
  await eventually(both, "they do not share");

  unsteady.signal("SIGSTOP");
  await eventually(() => steady.assigned.length === 4, "a member that stalls keeps its partitions");
  await spread(topic, 4, 1);
  await eventually(() => steady.read.length === 4, "messages of a member that stalls are not read");
  unsteady.signal("SIGCONT");
  await eventually(both, "a member does not come back");

  unsteady.signal("SIGKILL");
  await eventually(() => steady.assigned.length === 4, "a member that crashed keeps its partitions");
  await steady.leave();
  same(steady.read.length, 4, "what was committed is read again");
}

// Reads, commits and writes on through a kill -9 and a restart of the broker, which the test does when it has read the line.
// Nobody writes to the last partition after that: what was committed of it must be there still.
async function a_group_goes_on_through_kill_and_restart() {
  const topic = await create(5);
  const group = `group-of-${topic}`;
  const ledger = new Ledger();
  const first = await Member.join(topic, group, { ledger });
  const second = await Member.join(topic, group, { ledger });
  const producer = await byPartition();
  let written = 0;
  const writeUntil = (condition, otherwise, partitions = 4) =>
    eventually(async () => {
      // One by one: of a call with several messages kafkajs takes those for sent whose leader moves to a broker that has
      // answered the call already.
      for (let partition = 0; partition < partitions; partition++) {
        await producer.send({ topic, messages: [{ partition, value: `${written}` }], acks: -1 });
        written += 1;
      }
      await sleep(50);
      return condition();
    }, otherwise);
  const bothRead = () => {
    const before = [first.read.length, second.read.length];
    return () => first.read.length > before[0] && second.read.length > before[1];
  };
  await writeUntil(bothRead(), "they do not share", 5);
  await eventually(() => ledger.hasRead(written) && ledger.isAllCommitted(), "not everything is committed");
  const answer = say("kill me");
  await writeUntil(() => answer.isHere, "the test does not answer");
  await writeUntil(bothRead(), "they do not go on");
  await first.leave();
  await writeUntil(() => second.assigned.length === 5, "nobody takes over");
  await eventually(() => ledger.hasRead(written), "a message is lost");
  await eventually(() => ledger.isAllCommitted(), "not everything is committed");
  await second.leave();
  await producer.disconnect();
  await withAdmin(async (admin) => {
    const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
    for (const { partition, offset } of found.partitions) same(Number(offset), ledger.next[partition]);
  });
}

async function a_group_goes_on_where_it_committed() {
  const topic = await create(2);
  const group = `group-of-${topic}`;
  await spread(topic, 2, 10);
  await withAdmin(async (admin) => {
    const committed = async () => {
      const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      return found.partitions.map(({ offset, metadata }) => [offset, metadata]);
    };
    same((await committed()).map(([offset]) => offset), ["-1", "-1"]);
    const idle = await Member.join(topic, group, { commits: false });
    await eventually(() => idle.read.length === 20, "not everything was read");
    await idle.consumer.commitOffsets([
      { topic, partition: 0, offset: "7", metadata: "seven ☃" },
      { topic, partition: 1, offset: "4" },
    ]);
    await idle.leave();
    // kafkajs shows metadata that are empty as none.
    same(await committed(), [["7", "seven ☃"], ["4", null]]);

    const again = await readInGroup(topic, group, 3 + 6);
    same([again.offsets(0), again.offsets(1)], [from(7, 10), from(4, 10)]);
    // Nothing was committed: it comes again, and is committed now.
    const member = await Member.join(topic, group);
    await eventually(() => member.read.length === 3 + 6, "not everything came again");
    await member.leave();
    same((await committed()).map(([offset]) => offset), ["10", "10"]);
  });
  await spread(topic, 2, 1);
  const later = await readInGroup(topic, group, 2);
  same([later.offsets(0), later.offsets(1)], [[10], [10]]);
}

async function a_member_seeks_back_and_forth() {
  const topic = await create();
  await spread(topic, 1, 10);
  const member = await Member.join(topic, `group-of-${topic}`, { commits: false });
  await eventually(() => member.read.length === 10, "not everything was read");
  for (const place of [3, 9, 0]) {
    member.read = [];
    member.consumer.seek({ topic, partition: 0, offset: `${place}` });
    await eventually(() => member.read.length === 10 - place, `nothing from ${place} on`);
    same(member.offsets(), from(place, 10));
  }
  await member.leave();
}

async function a_group_starts_where_it_is_reset_to() {
  const topic = await create();
  await spread(topic, 1, 10);
  same((await readInGroup(topic, `start-of-${topic}`, 10)).offsets(), from(0, 10));
  // kafkajs's admin client joins a group to change its offsets, and takes five seconds: these go on at once.
  await withAdmin(async (admin) => {
    const set = async (groupId, offset) => {
      await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: `${offset}` }] });
      const [found] = await admin.fetchOffsets({ groupId, topics: [topic] });
      same(found.partitions[0].offset, `${offset}`);
    };
    const isSet = async (groupId) => {
      await set(groupId, 6);
      same((await readInGroup(topic, groupId, 4)).offsets(), from(6, 10));
    };
    const isReset = async (groupId) => {
      await readInGroup(topic, groupId, 10, { commits: true });
      await admin.resetOffsets({ groupId, topic, earliest: true });
      same((await readInGroup(topic, groupId, 10)).offsets(), from(0, 10));
    };
    // What is committed, and is not there.
    const isBeyond = async (groupId) => {
      await set(groupId, 1000);
      same((await readInGroup(topic, groupId, 10)).offsets(), from(0, 10));
    };
    await Promise.all([isSet(`set-${topic}`), isReset(`reset-${topic}`), isBeyond(`beyond-${topic}`)]);
  });
  const end = await Member.join(topic, `end-of-${topic}`, { fromBeginning: false });
  // Written until the member, which asks for the end when it has joined, has one of them.
  await eventually(async () => {
    await spread(topic, 1, 1);
    await sleep(100);
    return end.read.length > 0;
  }, "nothing behind the end is read");
  await end.leave();
  ok(Number(end.read[0].offset) >= 10, "what was before the end is read");
}

async function groups_are_listed_described_changed_and_deleted() {
  const topic = await create(2);
  const group = `group-of-${topic}`;
  await spread(topic, 2, 5);
  const member = await Member.join(topic, group, { clientId: "described" });
  await eventually(() => member.read.length === 10, "not everything was read");
  await withAdmin(async (admin) => {
    const listed = async () => (await admin.listGroups()).groups.find((one) => one.groupId === group);
    const describe = async () => (await admin.describeGroups([group])).groups[0];
    const refused = (type) =>
      rejects(admin.deleteGroups([group]), (error) => error.groups[0].error.type === type || Promise.reject(error));
    same((await listed()).protocolType, "consumer");
    const described = await describe();
    same([described.errorCode, described.state, described.protocol], [0, "Stable", "RoundRobinAssigner"]);
    same(described.members.map((one) => one.clientId), ["described"]);
    await refused("NON_EMPTY_GROUP");
    await member.leave();
    same((await describe()).state, "Empty");
    await admin.deleteGroups([group]);
    await refused("GROUP_ID_NOT_FOUND");
    same(await listed(), undefined);
  });
}

// The records that every client writes and every client must read: see ../python/interop.py.
const PER_CODEC = 40;
const FIRST_TIMESTAMP_MS = 1_700_000_000_000;

async function writeForOthers(topic) {
  for (const codec of Object.keys(CODECS)) {
    const messages = from(0, PER_CODEC).map((index) => ({
      timestamp: `${FIRST_TIMESTAMP_MS + index}`,
      key: index % 4 === 0 ? null : `${codec}-${index}`,
      value: index % 10 === 9 ? null : `${codec}.${index}.`.repeat(index % 7),
      headers: index % 3 === 0 ? { codec, index: `${index}` } : {},
    }));
    await write(topic, messages, codec);
  }
}

async function readFromOthers(topic) {
  const count = Object.keys(CODECS).length * PER_CODEC;
  const { read } = await readInGroup(topic, `others-of-${topic}-${process.pid}`, count);
  return read.map(({ offset, timestamp, key, value, headers }) => {
    const all = Object.entries(headers).map(([name, content]) => `${name}:${shown(content)}`);
    return [topic, offset, timestamp, shown(key), shown(value), all.join(",")].join("\t");
  });
}

main(
  {
    every_codec_comes_back,
    topics_are_created_grown_and_deleted,
    configs_are_described_and_altered,
    members_of_a_group_share_the_partitions_and_take_over,
    a_member_that_stalls_and_at_last_crashes_is_replaced,
    a_group_goes_on_through_kill_and_restart,
    a_group_goes_on_where_it_committed,
    a_member_seeks_back_and_forth,
    a_group_starts_where_it_is_reset_to,
    groups_are_listed_described_changed_and_deleted,
  },
  { write: writeForOthers, read: readFromOthers, beAMember },
);
