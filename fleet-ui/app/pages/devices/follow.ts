/** Following a log: one request after another, each where the one before ended. It must never ask twice at a time. */
import { pauseMs, type Tail } from "./logLines";

/** What a follower goes on from. */
export interface Position {
  readonly after: number;
  readonly bootId: number;
  /** The command before, in whose place the next one stands in the history. */
  readonly follows: string;
}

export interface Answer {
  readonly command: string;
  readonly tail: Tail;
}

interface News extends Tail {
  /** It begins where the reading before ended; else the two may overlap. */
  readonly goesOn: boolean;
  /** The agent was started anew since the reading before. */
  readonly restarted: boolean;
}

/** Asks until `signal`, or until `ask` fails. */
export async function follow(ask: (from: Position | undefined) => Promise<Answer>, got: (news: News) => void, signal: AbortSignal): Promise<void> {
  let position: Position | undefined;
  while (!signal.aborted) {
    const began = Date.now();
    const { command, tail } = await ask(position);
    if (signal.aborted) return;
    got({ ...tail, goesOn: position !== undefined, restarted: position !== undefined && tail.at !== undefined && tail.at.bootId !== position.bootId });
    position = tail.at && { after: tail.at.next, bootId: tail.at.bootId, follows: command };
    await passed(pauseMs(tail, Date.now() - began), signal);
  }
}

function passed(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
