// Runs the SDKs for Node for a test: one JSON line in says what to do, one JSON line out what came
// of it. Started by tests/integration/node_driver.py with the directory of the SDKs as its argument.

import readline from "node:readline";
import { ways } from "./ways.mjs";

const lines = readline.createInterface({ input: process.stdin });

function failure(error) {
  return {
    class: error.constructor.name,
    message: String(error.message),
    status: error.status ?? null,
    code: error.code ?? error.error?.code ?? null,
    type: error.type ?? error.error?.error?.type ?? null,
    requestId: error.requestID ?? null,
    stack: String(error.stack),
  };
}

for await (const line of lines) {
  const { way, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { result: await ways[way](given) };
  } catch (error) {
    answer = { failure: failure(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
