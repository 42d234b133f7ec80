/** A control plane with agents as real processes in a temporary folder: what a file of journeys looks at. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binary, PATIENCE_MS, Running } from "./processes";

const HERE = "127.0.0.1";
const POLL_MS = 100;
/** The last that `aidos up` says of itself. */
const READY = "the next start resumes";

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (!address || typeof address === "string") throw new Error("a server on TCP has a port");
  return address.port;
}

/** Asks until `look` gives a value, for what only a request can tell. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`did not happen: ${what}`);
}

export interface Device {
  readonly id: string;
  readonly name: string;
}

interface Agent {
  readonly folder: string;
  process: Running | undefined;
}

export class Stack {
  ownerKey = "";
  #plane: Running | undefined;
  readonly #agents = new Map<string, Agent>();

  private constructor(
    readonly folder: string,
    readonly url: string,
    private readonly listeners: readonly string[],
  ) {}

  /** What `aidos up` makes: a control plane, an agent with `site=local`, and the model digits on it. */
  static async up(): Promise<Stack> {
    const folder = mkdtempSync(join(tmpdir(), "aidos-journey-"));
    const api = await freePort();
    const listeners = ["--listen", `${HERE}:${api}`];
    for (const other of ["--quic", "--mqtt", "--serve"]) listeners.push(other, `${HERE}:${await freePort()}`);
    const stack = new Stack(folder, `http://${HERE}:${api}`, listeners);
    try {
      await stack.start();
    } catch (error) {
      await stack.stop();
      throw error;
    }
    stack.ownerKey = readFileSync(join(folder, "control-plane/owner.key"), "utf8").trim();
    return stack;
  }

  /** Starts the control plane, again after `kill`. */
  async start(): Promise<void> {
    this.#plane = new Running(binary("aidos"), ["up", "--data-dir", this.folder, ...this.listeners], this.#environment());
    await this.#plane.says(READY);
  }

  /** The control plane is gone at once; agents run on. */
  async kill(): Promise<void> {
    await this.#plane?.end("SIGKILL");
    this.#plane = undefined;
  }

  /** Ends every process and removes what they wrote. */
  async stop(): Promise<void> {
    await Promise.all([this.#plane?.end(), ...[...this.#agents.values()].map((agent) => agent.process?.end())]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Asks the API as `key`, an owner's unless said otherwise. */
  async api<T = unknown>(method: string, path: string, body?: unknown, key = this.ownerKey): Promise<T> {
    const headers = { authorization: `Bearer ${key}`, ...(body !== undefined && { "content-type": "application/json" }) };
    const response = await fetch(`${this.url}/api/v1/${path}`, { method, headers, body: body === undefined ? null : JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  /** The text of a new key. */
  async key(role: "viewer" | "operator" | "owner"): Promise<string> {
    return (await this.api<{ secret: string }>("POST", "keys", { name: role, role })).secret;
  }

  /** Runs `aidos` against this control plane, and gives what it printed. */
  aidos(...args: readonly string[]): string {
    return ran(binary("aidos"), args, this.#environment());
  }

  /** Runs the line that the dashboard shows on a device of this name, and the agent; gives the device's id. */
  async agent(name: string, line: string): Promise<string> {
    const [program, ...args] = line.trim().split(/\s+/);
    if (program !== "aidos-agent") throw new Error(`not a line to join by: ${line}`);
    const agent: Agent = { folder: join(this.folder, name), process: undefined };
    ran(binary("aidos-agent"), [...args, "--name", name, "--data-dir", agent.folder]);
    this.#agents.set(name, agent);
    agent.process = new Running(binary("aidos-agent"), ["run", "--serve", `${HERE}:0`, "--data-dir", agent.folder]);
    return await eventually(`${name} is online`, async () => {
      const { items } = await this.api<{ items: Device[] }>("GET", "devices?state=online&limit=1000");
      return items.find((device) => device.name === name)?.id;
    });
  }

  /** A device that has joined and is connected; its id. */
  async device(name: string, labels: Readonly<Record<string, string>>): Promise<string> {
    const { command } = await this.api<{ command: string }>("POST", "tokens", { labels });
    return await this.agent(name, command);
  }

  /** Runs `aidos-agent` on a device, as the person at its site. */
  site(name: string, ...args: readonly string[]): string {
    const agent = this.#agents.get(name);
    if (!agent) throw new Error(`no agent ${name} was started`);
    return ran(binary("aidos-agent"), [...args, "--data-dir", agent.folder]);
  }

  #environment(): Record<string, string> {
    return { AIDOS_DATA_DIR: this.folder, AIDOS_CONTEXTS: join(this.folder, "contexts.toml") };
  }
}

function ran(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", timeout: PATIENCE_MS, env: { ...process.env, NO_COLOR: "1", ...env } });
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(" ")} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}
