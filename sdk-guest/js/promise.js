// A promise whose jobs run when `drain` says so.
//
// A component built with componentize-qjs in its synchronous mode returns before the engine's own jobs run, so an `async` function would
// never get past its first `await`. The build lowers `async` to generators over the global `Promise`, which is this one.

const jobs = [];

export function drain() {
  for (let job = jobs.shift(); job; job = jobs.shift()) job();
}

export class Promise {
  #state = "pending";
  #value;
  #waiting = [];

  constructor(executor) {
    if (typeof executor !== "function") throw new TypeError("Promise needs a function");
    const { resolve, reject } = this.#resolvers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  then(fulfilled, rejected) {
    return new Promise((resolve, reject) => {
      const react = () => {
        const handler = this.#state === "fulfilled" ? fulfilled : rejected;
        if (typeof handler !== "function") return (this.#state === "fulfilled" ? resolve : reject)(this.#value);
        try {
          resolve(handler(this.#value));
        } catch (error) {
          reject(error);
        }
      };
      if (this.#state === "pending") this.#waiting.push(react);
      else jobs.push(react);
    });
  }

  catch(rejected) {
    return this.then(undefined, rejected);
  }

  finally(call) {
    return this.then(
      (value) => Promise.resolve(call()).then(() => value),
      (error) =>
        Promise.resolve(call()).then(() => {
          throw error;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  #resolvers() {
    let over = false;
    const once = (call) => (value) => {
      if (over) return;
      over = true;
      call(value);
    };
    return { resolve: once((value) => this.#resolve(value)), reject: once((error) => this.#settle("rejected", error)) };
  }

  #resolve(value) {
    if (value === this) return this.#settle("rejected", new TypeError("a promise cannot resolve to itself"));
    let then;
    try {
      then = typeof value === "object" || typeof value === "function" ? value?.then : undefined;
    } catch (error) {
      return this.#settle("rejected", error);
    }
    if (typeof then !== "function") return this.#settle("fulfilled", value);
    jobs.push(() => {
      const { resolve, reject } = this.#resolvers();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    this.#state = state;
    this.#value = value;
    jobs.push(...this.#waiting);
    this.#waiting = [];
  }

  static resolve(value) {
    return value instanceof Promise ? value : new Promise((resolve) => resolve(value));
  }

  static reject(error) {
    return new Promise((_, reject) => reject(error));
  }

  static withResolvers() {
    const parts = {};
    parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
  }

  static try(call, ...given) {
    return new Promise((resolve) => resolve(call(...given)));
  }

  static all(values) {
    return Promise.#each(values, (promise, keep, _, reject) => promise.then(keep, reject));
  }

  static allSettled(values) {
    return Promise.#each(values, (promise, keep) =>
      promise.then(
        (value) => keep({ status: "fulfilled", value }),
        (reason) => keep({ status: "rejected", reason }),
      ),
    );
  }

  static any(values) {
    const swapped = Promise.#each(values, (promise, keep, resolve) => promise.then((value) => resolve({ value }), keep));
    return swapped.then((result) => {
      if (Array.isArray(result)) throw new AggregateError(result, "every promise was rejected");
      return result.value;
    });
  }

  static race(values) {
    return new Promise((resolve, reject) => {
      for (const value of values) Promise.resolve(value).then(resolve, reject);
    });
  }

  static #each(values, wait) {
    return new Promise((resolve, reject) => {
      const all = [...values];
      const kept = new Array(all.length);
      let open = all.length;
      if (open === 0) return resolve(kept);
      all.forEach((value, at) => {
        const keep = (one) => {
          kept[at] = one;
          open -= 1;
          if (open === 0) resolve(kept);
        };
        wait(Promise.resolve(value), keep, resolve, reject);
      });
    });
  }
}

globalThis.Promise = Promise;
globalThis.queueMicrotask = (job) => {
  jobs.push(job);
};
