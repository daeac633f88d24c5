/** A map of bounded size that forgets what was used longest ago. */
export class Cache {
  #entries = new Map();
  #most;

  constructor(most) {
    this.#most = most;
  }

  get size() {
    return this.#entries.size;
  }

  get(key) {
    const value = this.#entries.get(key);
    // Only a full cache pays for the order: below half of it nothing can be pushed out soon.
    if (value !== undefined && this.#entries.size * 2 > this.#most) {
      this.#entries.delete(key);
      this.#entries.set(key, value);
    }
    return value;
  }

  set(key, value) {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#most) this.#entries.delete(this.#entries.keys().next().value);
  }

  delete(key) {
    this.#entries.delete(key);
  }

  clear() {
    this.#entries.clear();
  }
}

/** Runs `work` once at a time per key: who comes while it runs waits for the same outcome. */
export class SingleFlight {
  #running = new Map();

  run(key, work) {
    let running = this.#running.get(key);
    if (!running) {
      running = work().finally(() => this.#running.delete(key));
      this.#running.set(key, running);
    }
    return running;
  }
}
