// What a plugin in JavaScript or TypeScript sees of Caisson: the same in a component of its own and on the built-in engine.
//
// A plugin is a module that exports a function for each action of caisson-plugin.toml. It gets the input and the context, and what it
// returns (or what its promise gives) is the step's result, as JSON. To fail, throw `caisson.Failure`; to wait, return
// `caisson.suspend(…)`. Numbers are doubles: an integer beyond 2^53 in the input loses its last digits, so hand such ids as text.

export {};

declare global {
  namespace Caisson {
    type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
    type Category = "validation" | "expression" | "action" | "transient" | "timeout" | "policy" | "limit";

    /** Which step of which run this is. `Config` is what the operator set for the plugin, `State` what `suspend` kept. */
    interface Context<Config = Record<string, any>, State = any> {
      readonly action: string;
      readonly tenant: string;
      readonly environment: string;
      readonly workflow: string;
      readonly workflowVersion: string;
      readonly runId: string;
      readonly stepId: string;
      /** The state's name in the definition. */
      readonly state: string;
      /** From 1. */
      readonly attempt: number;
      /** How often this attempt was entered before: 0 first, one more for every wake. */
      readonly entry: number;
      /** The same for every attempt of this step: hand it to outside systems. */
      readonly idempotencyKey: string;
      readonly deadlineMs: number | null;
      readonly traceparent: string | null;
      readonly config: Readonly<Config>;
      /** What the step kept and what woke it; null when the attempt begins. */
      readonly resumed: { readonly state: State; readonly wake: Wake } | null;
    }

    type Wake =
      | { type: "signal"; name: string; payload: any; actor: string | null }
      | {
          type: "approval";
          verdict: "approved" | "rejected" | "timed-out";
          approved: boolean;
          actor: string | null;
          comment: string | null;
        }
      | { type: "timer" }
      /** The run is being cancelled: clean up within ten seconds, the outcome is ignored. */
      | { type: "cancelled"; reason: string };

    interface FailureOptions {
      /** Stable, upper snake case, for example RATE_LIMITED. */
      code: string;
      /** What a person should know and do. */
      message: string;
      /** What `retryOn` and `catch` select by; "action" when absent. */
      category?: Category;
      /** As the workflow says, not again, or not before so many milliseconds. */
      retry?: "default" | "never" | { afterMs: number };
      /** JSON for programs. */
      details?: unknown;
      cause?: unknown;
    }

    interface Suspend {
      /** JSON that the step finds in `context.resumed.state`. */
      state?: unknown;
      /** Names of signals that wake it. */
      signals?: string[];
      wakeAfterMs?: number;
      /** Needs the `approval` capability. */
      approval?: {
        message: string;
        summary?: unknown;
        /** "user:NAME" or "team:NAME"; empty means any approver of the tenant. */
        approvers?: string[];
        deadlineMs?: number;
      };
    }

    /** What `suspend` gives: return it. */
    interface Suspension {
      readonly signals: string[];
    }

    interface Headers extends Iterable<[string, string]> {
      get(name: string): string | null;
      has(name: string): boolean;
      entries(): IterableIterator<[string, string]>;
      forEach(call: (value: string, name: string) => void): void;
    }

    interface Request {
      url: string;
      method?: string;
      /** `{{secret:NAME}}` in a value is filled in by the host where granted. */
      headers?: Record<string, string | string[]> | Iterable<readonly [string, string]>;
      body?: string | Uint8Array | ArrayBuffer | null;
      /** Instead of a body: a value that is sent as JSON. */
      json?: unknown;
      timeoutMs?: number;
    }

    /** What came back; it is all here already. */
    interface Response {
      readonly status: number;
      /** Whether the status is 2xx. */
      readonly ok: boolean;
      readonly url: string;
      readonly headers: Headers;
      bytes(): Uint8Array;
      text(): string;
      json(): any;
    }

    interface FetchResponse {
      readonly status: number;
      readonly ok: boolean;
      readonly url: string;
      readonly headers: Headers;
      bytes(): Promise<Uint8Array>;
      text(): Promise<string>;
      json(): Promise<any>;
      arrayBuffer(): Promise<ArrayBuffer>;
    }

    type Log = (message: string, fields?: unknown) => void;
  }

  const caisson: {
    /** Why an action failed. */
    readonly Failure: {
      new (options: Caisson.FailureOptions): Error & Required<Pick<Caisson.FailureOptions, "code" | "category">>;
    };
    /** What a capability throws: `code` is CAPABILITY_DENIED, CAPABILITY_NOT_ASKED, NOT_FOUND, QUOTA, TOO_LARGE, … */
    readonly CapabilityError: {
      new (...given: never[]): Error & { readonly code: string; readonly category: Caisson.Category };
    };
    suspend(options: Caisson.Suspend): Caisson.Suspension;
    /** What the operator configured, as `context.config`. */
    readonly config: Readonly<Record<string, any>>;
    /** Log lines of the step: always granted. */
    readonly log: {
      readonly trace: Caisson.Log;
      readonly debug: Caisson.Log;
      readonly info: Caisson.Log;
      readonly warn: Caisson.Log;
      readonly error: Caisson.Log;
      readonly fatal: Caisson.Log;
    };
    /** How far the step is, in percent. */
    progress(percent: number | null, message?: string): void;
    /** Outgoing HTTP to granted hosts. */
    readonly http: { send(request: Caisson.Request): Caisson.Response };
    readonly secrets: { get(name: string): string };
    /** Small state, kept per tenant, plugin and workflow: JSON, or bytes. */
    readonly kv: {
      get(key: string): any;
      getBytes(key: string): Uint8Array | null;
      set(key: string, value: unknown): void;
      delete(key: string): void;
      keys(prefix?: string, limit?: number): string[];
    };
    /** Files that belong to the step and outlive it; `put` gives the id. */
    readonly artifacts: {
      put(name: string, data: string | Uint8Array | ArrayBuffer | object, mime?: string): string;
      get(id: string): Uint8Array;
    };
    /** Business events. */
    readonly events: { emit(name: string, payload?: unknown, correlationKey?: string | null): void };
    /** A language model. */
    readonly model: { complete(request: unknown): any };
    /** Tools that the operator connected, named SERVER.TOOL. A call gives a text, or an object where there is more than text. */
    readonly tools: {
      list(): { name: string; description: string; parameters: unknown }[];
      call(name: string, args?: Record<string, unknown>): any;
    };
    /** Files of the plugin's own package. */
    readonly assets: { read(name: string): Uint8Array | null; text(name: string): string | null };
  };

  /** Log lines: the values, with a space between. */
  const console: Record<"log" | "info" | "debug" | "trace" | "warn" | "error", (...values: unknown[]) => void>;
  /** `caisson.http.send` for code that expects promises; nothing runs while it waits. */
  function fetch(
    url: string,
    options?: { method?: string; headers?: Caisson.Request["headers"]; body?: Caisson.Request["body"] },
  ): Promise<Caisson.FetchResponse>;
  class TextEncoder {
    encode(text?: string): Uint8Array;
  }
  class TextDecoder {
    decode(bytes?: Uint8Array | ArrayBuffer): string;
  }
  function queueMicrotask(job: () => void): void;
}
