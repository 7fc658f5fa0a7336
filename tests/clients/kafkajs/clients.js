// kafkajs with every codec, and what scenarios do with it.
"use strict";

const { randomUUID } = require("node:crypto");
const { Kafka, CompressionCodecs, CompressionTypes, logLevel } = require("kafkajs");
const snappy = require("kafkajs-snappy");
const lz4 = require("lz4-napi");
const zstd = require("@bokuweb/zstd-wasm");

const { eventually, fail, sleep } = require("./harness.js");

CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (bytes) => lz4.decompressFrame(bytes),
});
const isReady = zstd.init();
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => isReady.then(() => Buffer.from(zstd.compress(encoder.buffer))),
  decompress: async (bytes) => isReady.then(() => Buffer.from(zstd.decompress(bytes))),
});

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};

function kafka(clientId = "kafkajs") {
  const retry = { initialRetryTime: 50, maxRetryTime: 500, retries: 100 };
  return new Kafka({ clientId, brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry });
}

// Calls `use` with an admin client.
async function withAdmin(use) {
  const admin = kafka().admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

// Makes a new topic and returns its name.
async function create(numPartitions = 1) {
  const topic = `kafkajs-${randomUUID()}`;
  await withAdmin(async (admin) => {
    await admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: false });
    // A broker may tell of a decision a moment after it was made.
    const metadata = () => admin.fetchTopicMetadata({ topics: [topic] }).catch(({ type }) => type);
    await eventually(async () => (await metadata()) !== "UNKNOWN_TOPIC_OR_PARTITION", "the topic is not there");
  });
  return topic;
}

// A producer of messages that name their partitions.
async function byPartition() {
  const producer = kafka().producer({ idempotent: true, createPartitioner: () => ({ message }) => message.partition ?? 0 });
  await producer.connect();
  return producer;
}

// Writes messages as one request, and returns the answer.
async function write(topic, messages, codec = "none") {
  const producer = await byPartition();
  const answer = await producer.send({ topic, messages, acks: -1, compression: CODECS[codec] });
  await producer.disconnect();
  return answer;
}

// Writes count messages to each partition.
async function spread(topic, partitions, count) {
  const messages = [];
  for (let partition = 0; partition < partitions; partition++) {
    for (let index = 0; index < count; index++) messages.push({ partition, value: `${index}` });
  }
  await write(topic, messages);
}

// What the members of a group have read and committed, together. What is known to be committed is not read again.
class Ledger {
  values = new Set();
  next = [];
  committed = [];

  noteRead(partition, { offset, value }) {
    const end = this.committed[partition] ?? 0;
    if (Number(offset) < end) fail(`${partition}`, new Error(`${offset} is read again: ${end} is committed`));
    this.next[partition] = Math.max(Number(offset) + 1, this.next[partition] ?? 0);
    this.values.add(`${value}`);
  }

  noteCommitted(partition, end) {
    this.committed[partition] = Math.max(end, this.committed[partition] ?? 0);
  }

  hasRead(count) {
    return Array.from({ length: count }, (_, number) => `${number}`).every((value) => this.values.has(value));
  }

  isAllCommitted() {
    return this.next.every((end, partition) => this.committed[partition] === end);
  }
}

// A consumer of a group, at work until it leaves. It may keep a ledger.
class Member {
  assigned = [];
  read = [];

  static async join(topic, groupId, { commits = true, fromBeginning = true, clientId, ledger, ...settings } = {}) {
    const member = new Member();
    member.commits = commits;
    member.ledger = ledger;
    member.consumer = kafka(clientId).consumer({ groupId, heartbeatInterval: 300, maxWaitTimeInMs: 200, ...settings });
    const { GROUP_JOIN, REBALANCING } = member.consumer.events;
    member.consumer.on(GROUP_JOIN, ({ payload }) => (member.assigned = payload.memberAssignment[topic] ?? []));
    member.consumer.on(REBALANCING, () => (member.assigned = []));
    await member.consumer.connect();
    await member.consumer.subscribe({ topic, fromBeginning });
    await member.consumer.run({ autoCommit: false, eachBatch: (batch) => member.take(batch) });
    return member;
  }

  async take({ batch, resolveOffset, isStale }) {
    // What was fetched before a seek or a rebalance is not asked for any more.
    if (isStale()) return;
    const { topic, partition, messages } = batch;
    for (const message of messages) this.ledger?.noteRead(partition, message);
    if (this.commits) {
      const offset = `${BigInt(batch.lastOffset()) + 1n}`;
      try {
        await this.consumer.commitOffsets([{ topic, partition, offset }]);
      } catch (error) {
        // What it read before it stalled, and others have read meanwhile, is not its any more.
        if (["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"].includes(error.cause?.type ?? error.type)) return;
        throw error;
      }
      this.ledger?.noteCommitted(partition, Number(offset));
    }
    for (const message of messages) {
      resolveOffset(message.offset);
      this.read.push({ partition, ...message });
    }
  }

  // The offsets that it has read of a partition.
  offsets(partition = 0) {
    return this.read.filter((message) => message.partition === partition).map((message) => Number(message.offset));
  }

  async leave() {
    await this.consumer.disconnect();
  }
}

// Reads count messages in a group without a commit, and leaves.
async function readInGroup(topic, groupId, count, settings = {}) {
  const member = await Member.join(topic, groupId, { commits: false, ...settings });
  await eventually(() => member.read.length >= count, `${member.read.length} of ${count} messages`);
  await member.leave();
  return member;
}

module.exports = { CODECS, Ledger, Member, byPartition, create, kafka, readInGroup, sleep, spread, withAdmin, write };
