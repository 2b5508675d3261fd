// A consumer that knows nothing of OpenIM but what docs/asyncapi.json says.
//
//     AMQP_URL=... node consumer_from_documents.js asyncapi.json QUEUE
//
// Finds the channel of each message by its routing key, checks body and headers against the
// schemas of that channel's message, reads strings that hold JSON, and prints what it has got.

const fs = require("fs");
const amqp = require("amqplib");
const Ajv = require("ajv/dist/2020");

const [, , file, queue] = process.argv;
const text = fs.readFileSync(file, "utf8");
const document = JSON.parse(text);
const ajv = new Ajv({ strict: false, allErrors: true });
ajv.addSchema(document, "asyncapi.json");

const escaped = (words) => words.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
const published = ({ bindings }) => bindings && bindings.amqp.is === "routingKey";
const channels = Object.values(document.channels).filter(published).map((channel) => ({
  address: new RegExp(`^${escaped(channel.address).replace(/\{\w+\}/g, "[^.]+")}$`),
  message: resolved(Object.values(channel.messages)[0].$ref),
}));

function resolved(reference) {
  return reference.split("/").slice(1).reduce((found, key) => found[key], document);
}

function check(schema, value, what) {
  const valid = ajv.getSchema(`asyncapi.json${schema.$ref}`);
  if (!valid(value)) throw new Error(`${what}: ${ajv.errorsText(valid.errors)}`);
}

function decode(delivery) {
  const key = delivery.fields.routingKey;
  const { message } = channels.find((channel) => channel.address.test(key));
  const body = JSON.parse(delivery.content);
  check(message.payload, body, "body");
  check(message.headers, delivery.properties.headers, "headers");
  const fields = resolved(message.payload.$ref).properties;
  const documents = Object.keys(fields).filter((name) => fields[name].contentMediaType);
  const held = documents.filter((name) => body[name]).map((name) => JSON.parse(body[name]));
  return { message: message.title, type: delivery.properties.type, body, held };
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.prefetch(100);
  await channel.consume(queue, (delivery) => {
    console.log(JSON.stringify(decode(delivery)));
    channel.ack(delivery);
  });
}

main();
