// A client over MQTT.js, for tests: node client.cjs '{"url":…,"version":4|5,…}'.
//
// With "filters" it subscribes, prints "granted CODE…" and then "TOPIC PAYLOAD QOS" for each message.
// With "publish" it publishes [[topic, payload, qos], …], printing "done TOPIC" or "refused TOPIC CODE", and
// ends. A failed connection prints "failed CODE MESSAGE" and ends with exit code 1.
"use strict";

const fs = require("node:fs");
const mqtt = require("mqtt");

const o = JSON.parse(process.argv[2]);
const client = mqtt.connect(o.url, {
  protocolVersion: o.version,
  clientId: o.id,
  username: o.username,
  password: o.password,
  clean: true,
  reconnectPeriod: 0,
  connectTimeout: 30_000,
  ca: o.ca && fs.readFileSync(o.ca),
  cert: o.cert && fs.readFileSync(o.cert),
  key: o.key && fs.readFileSync(o.key),
  resubscribe: false,
});

// Messages may be told of before the callback of their subscription.
let early = [];
client.on("message", (topic, payload, packet) => {
  const line = `${topic} ${payload} ${packet.qos}`;
  early ? early.push(line) : console.log(line);
});
client.on("error", (err) => {
  console.log(`failed ${err.code} ${err.message}`);
  process.exit(1);
});

let connected = false;
client.on("close", () => {
  if (!connected) {
    console.log("failed closed before CONNACK");
    process.exit(1);
  }
});

client.on("connect", () => {
  connected = true;
  if (o.filters) {
    client.subscribe(o.filters, { qos: 2 }, (err, granted, suback) => {
      const codes = suback ? suback.granted : granted.map((g) => g.qos);
      console.log([`granted ${codes.map((c) => (typeof c === "number" ? c : c.qos)).join(" ")}`, ...early].join("\n"));
      early = null;
    });
  }
  const next = () => {
    const [topic, payload, qos] = o.publish.shift() || [];
    if (topic === undefined) {
      client.end();
      return;
    }
    client.publish(topic, payload, { qos }, (err) => {
      console.log(err ? `refused ${topic} ${err.code}` : `done ${topic}`);
      next();
    });
  };
  if (o.publish) {
    next();
  }
});
