// A Node interpreter that waits for one agent and then becomes `node ENTRY` (see supervisor.py).
import fs from "node:fs";
import http from "node:http";
import Module from "node:module";
import path from "node:path";

const CONTROL_FD = 3;
const CODE = "/work/code";

fs.writeSync(2, "\x06");
const message = fs.readFileSync(CONTROL_FD, "utf8");
if (!message) process.exit(1);
const go = JSON.parse(message);

fs.closeSync(CONTROL_FD);
fs.closeSync(0);
fs.openSync(go.stdin, "r"); // the lowest free descriptor: standard input
for (const name of Object.keys(process.env)) delete process.env[name];
Object.assign(process.env, go.env);
process.chdir(CODE);
const entry = path.join(CODE, go.entry);
process.argv = [process.execPath, entry];
process.execArgv = [];
if (go.egress) http.setGlobalProxyFromEnv();

// Outside this module's evaluation, so that the agent's errors are uncaught exceptions and not rejections.
setImmediate(() => Module.runMain(entry));
