// Runs the emulator on 127.0.0.1 only, which its own command line cannot, and
// prints the port. Ends when standard input does, so that it does not outlive
// the test that started it.
const dist = process.argv[2];
const { buildApp } = await import(`${dist}/app.js`);
const { SqsStore } = await import(`${dist}/sqs/sqsStore.js`);
const { SnsStore } = await import(`${dist}/sns/snsStore.js`);
const { S3Store } = await import(`${dist}/s3/s3Store.js`);
const app = buildApp({
  logger: false,
  bodyLimit: 8 << 20,
  stores: { sqsStore: new SqsStore(), snsStore: new SnsStore(), s3Store: new S3Store() },
});
const address = await app.listen({ port: Number(process.argv[3]), host: "127.0.0.1" });
process.stdout.write(`${new URL(address).port}\n`);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
