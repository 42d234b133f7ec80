/**
 * Who is signed in. The cookie itself is out of reach of scripts; here is what the control plane told about it.
 *
 * It must never hold an API key: what a person types into the sign-in form is sent once and forgotten.
 */

import type { components } from "./schema";

export type Session = components["schemas"]["SessionView"];
export type Role = components["schemas"]["Role"];

type Listener = () => void;

const RANK: Record<Role, number> = { viewer: 0, operator: 1, owner: 2 };

class SessionStore {
  #session: Session | undefined;
  #listeners = new Set<Listener>();

  get = (): Session | undefined => this.#session;

  csrf(): string | undefined {
    return this.#session?.csrf_token;
  }

  /** Whether the person may do what asks for `role`; the control plane has the last word. */
  may(role: Role): boolean {
    return this.#session !== undefined && RANK[this.#session.role] >= RANK[role];
  }

  begun(session: Session): void {
    this.#session = session;
    this.#tell();
  }

  /** Signed out, expired or revoked. */
  ended(): void {
    if (!this.#session) return;
    this.#session = undefined;
    this.#tell();
  }

  subscribe = (listener: Listener): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

export const session = new SessionStore();
