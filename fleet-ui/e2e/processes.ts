/** Child processes: started with their output kept, waited for by what they say, ended by their id. */
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";

/** Longer than anything that is waited for takes on a busy machine. */
export const PATIENCE_MS = 90_000;
/** After this a process that was told to end is killed. */
const LEAVE_MS = 15_000;

/** A binary of this repository; `AIDOS_BIN` names their folder. */
export function binary(name: "aidos" | "aidos-agent" | "aidos-control-plane"): string {
  const folder = process.env.AIDOS_BIN;
  if (!folder) throw new Error("AIDOS_BIN is not set: run `cargo xtask test`, or name the folder of the built binaries");
  return join(folder, name);
}

export class Running {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #said = "";
  #listeners = new Set<() => void>();

  constructor(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1", ...env } });
    const hear = (bytes: Buffer) => {
      this.#said += bytes.toString();
      for (const listener of this.#listeners) listener();
    };
    this.#child.stdout!.on("data", hear);
    this.#child.stderr!.on("data", hear);
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", resolve);
    });
  }

  /** Until it has printed `words`. */
  async says(words: string): Promise<void> {
    let listener = () => {};
    const said = new Promise<void>((resolve) => {
      listener = () => this.#said.includes(words) && resolve();
      this.#listeners.add(listener);
      listener();
    });
    const late = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(new Error(`it did not say “${words}”:\n${this.#said}`)), PATIENCE_MS);
      void said.finally(() => clearTimeout(timer));
    });
    const over = this.#ended.then((code) => {
      if (!this.#said.includes(words)) throw new Error(`it ended with ${code} before it said “${words}”:\n${this.#said}`);
    });
    try {
      await Promise.race([said, over, late]);
    } finally {
      this.#listeners.delete(listener);
    }
  }

  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), LEAVE_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}
