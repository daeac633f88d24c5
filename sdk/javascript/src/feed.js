// The reader of one issuer's revocation feed: server-sent events, else long polls. Whatever goes
// wrong it goes on, from where it was; what it once heard it keeps until that entry's end.
import { TokenSource } from "./credentials.js";
import { HttpError, ask, failed, object, sleep } from "./http.js";
import { RevokedSet } from "./revoked.js";
import { events } from "./sse.js";

/** A feed that said nothing for so long is lost. */
const LOST_MS = 45_000;
/** Two heartbeats and a bit: try again before that. */
const SILENT_MS = 35_000;
/** A stream without its first word by then is being held back by something between. */
const HELD_BACK_MS = 20_000;
const POLL_SECONDS = 25;
const STREAM_AGAIN_MS = 300_000;
const FORGET_MS = 30_000;
const MOST_BYTES = 256 << 20;
/** Answers that say nothing about streams. */
const OTHER = new Set([400, 401, 403, 410, 429, 503]);

export class Feed {
  #issuer;
  #context;
  #source;
  #revoked = new RevokedSet();
  #cursor;
  #loaded = false;
  #whole = false; // no snapshot is under way
  #heard = { mono: 0, wall: 0 };
  #retry = 1000;
  #pollUntil = 0;
  #failures = 0;
  #onLoaded;
  #wasLost = false;
  #forgetting;
  loaded = new Promise((resolve) => (this.#onLoaded = resolve));

  constructor(issuer, context) {
    this.#issuer = issuer;
    this.#context = context;
    this.#source = new TokenSource(issuer, context);
  }

  start() {
    this.#forgetting = setInterval(() => {
      this.#revoked.forget(this.#context.clock.wall() / 1000);
      this.state();
    }, FORGET_MS);
    this.#forgetting.unref?.();
    this.#context.signal.addEventListener("abort", () => clearInterval(this.#forgetting));
    this.#run();
  }

  get size() {
    return this.#revoked.size;
  }

  /** Whether `known` is revoked; `known.live` remembers for which version it was not. */
  kills(known) {
    if (known.live === this.#revoked.version) return false;
    if (known.dead || this.#revoked.matches(known.keys, known.claims.iat, known.token.audience)) {
      return (known.dead = true);
    }
    known.live = this.#revoked.version;
    return false;
  }

  /** `{ state: "loading" | "live" | "lost", lostFor }`, in milliseconds. */
  state() {
    if (!this.#loaded) return { state: "loading", lostFor: 0 };
    const { clock } = this.#context;
    // The wall clock counts while a machine sleeps; the other does not jump.
    const silent = Math.max(clock.mono() - this.#heard.mono, clock.wall() - this.#heard.wall);
    const lost = silent > LOST_MS;
    if (lost !== this.#wasLost) {
      this.#wasLost = lost;
      this.#context.report({ issuer: this.#issuer.url, event: lost ? "feed_lost" : "feed_live" });
    }
    return lost ? { state: "lost", lostFor: silent - LOST_MS } : { state: "live", lostFor: 0 };
  }

  forget(now) {
    this.#revoked.forget(now);
  }

  #hear() {
    // Between a stale cursor and the end of the new snapshot a word proves nothing.
    if (!this.#whole) return;
    this.#heard = { mono: this.#context.clock.mono(), wall: this.#context.clock.wall() };
    this.#failures = 0;
    if (!this.#loaded) {
      this.#loaded = true;
      this.#onLoaded();
      this.#context.report({ issuer: this.#issuer.url, event: "feed_loaded" });
    }
    this.state();
  }

  /** The next request takes a snapshot. What is held stays: revocations only ever grow. */
  #restart() {
    this.#cursor = undefined;
    this.#whole = false;
  }

  #take(page, { snapshot, cursor }) {
    if (page.iss !== this.#issuer.url) throw new Error("the feed is another issuer's");
    if (!Array.isArray(page.entries)) throw new Error("a malformed page in the feed");
    const { unknown } = this.#revoked.add(page.entries);
    if (unknown > 0) this.#context.report({ issuer: this.#issuer.url, event: "unknown_entries", count: unknown });
    if (cursor !== undefined) this.#cursor = cursor;
    if (snapshot && page.more !== true) this.#whole = true;
    this.#hear();
  }

  async #run() {
    const { signal, clock } = this.#context;
    while (!signal.aborted) {
      let pause = 0;
      try {
        const polls = this.#context.transport === "poll" || clock.mono() < this.#pollUntil;
        pause = polls ? await this.#poll() : await this.#stream();
      } catch (error) {
        if (signal.aborted) return;
        pause = this.#failed(error);
      }
      if (pause > 0) await sleep(pause * (0.75 + Math.random() / 2), signal);
    }
  }

  /** What to do about an error: gives the milliseconds until the next try. */
  #failed(error) {
    this.#failures += 1;
    this.#context.report({ issuer: this.#issuer.url, event: "feed_failed", error });
    const backoff = Math.min(250 * 2 ** Math.min(this.#failures, 10), 10_000);
    if (!(error instanceof HttpError)) return backoff;
    if (error.status === 410 || error.status === 400) {
      const resumed = this.#cursor !== undefined;
      this.#restart();
      if (resumed) return 1; // a snapshot has no cursor to be stale
    }
    if (error.status === 401) {
      this.#source.drop();
      if (this.#failures < 3) return 50;
    }
    if (error.retryAfter !== undefined) return Math.max(Math.min(error.retryAfter * 1000, 5000), 250);
    return backoff;
  }

  async #address() {
    const { revocation_feed_endpoint: endpoint } = await this.#issuer.metadata();
    return new URL(endpoint ?? `${this.#issuer.url.replace(/\/$/, "")}/revocations`);
  }

  async #poll() {
    const url = await this.#address();
    const { token } = await this.#source.get();
    const snapshot = !this.#whole;
    if (this.#cursor !== undefined) url.searchParams.set("after", this.#cursor);
    if (!snapshot) url.searchParams.set("wait", String(POLL_SECONDS));
    const headers = { accept: "application/json", authorization: `Bearer ${token}` };
    const timeout = snapshot ? 60_000 : (POLL_SECONDS + 10) * 1000;
    const asked = this.#context.clock.mono();
    const answer = await ask(this.#context, url, { headers, timeout, most: MOST_BYTES, good: [200, 304] });
    if (answer.status === 304) {
      this.#hear();
      return 0;
    }
    const page = object(answer.text);
    if (typeof page.cursor !== "string") throw new Error("a page without a cursor");
    this.#take(page, { snapshot, cursor: page.cursor });
    // A server that does not wait is not asked without end.
    const quick = page.entries.length === 0 && page.more !== true && this.#context.clock.mono() - asked < 200;
    return quick && !snapshot ? 1000 : 0;
  }

  async #stream() {
    const url = await this.#address();
    const { token, renewIn } = await this.#source.get();
    const headers = { accept: "text/event-stream", authorization: `Bearer ${token}` };
    if (!this.#whole) this.#cursor = undefined; // a snapshot that was cut off begins anew
    if (this.#cursor !== undefined) headers["last-event-id"] = this.#cursor;
    const stream = new Watched(this.#context.signal, renewIn);
    try {
      const response = await this.#context.fetch(url, { headers, redirect: "error", signal: stream.signal });
      if (response.status !== 200) throw failed(url, response);
      if (!/^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "")) {
        response.body?.cancel().catch(() => {});
        throw new NoStream("the feed does not stream here");
      }
      stream.opened = true;
      await this.#follow(response.body, stream);
      return this.#retry; // ended by the server
    } catch (error) {
      if (stream.renewing) return 0;
      if (stream.heldBack) throw this.#pollFor(new NoStream("something holds the stream back"));
      const status = error instanceof HttpError && !OTHER.has(error.status);
      throw error instanceof NoStream || status ? this.#pollFor(error) : error;
    } finally {
      stream.end();
    }
  }

  #pollFor(error) {
    if (this.#context.transport !== "sse") this.#pollUntil = this.#context.clock.mono() + STREAM_AGAIN_MS;
    return error;
  }

  async #follow(body, stream) {
    for await (const event of events(body, MOST_BYTES)) {
      stream.spoke();
      if (event.retry !== undefined) this.#retry = Math.min(Math.max(event.retry, 100), 5000);
      else if (event.comment !== undefined) this.#hear();
      else if (event.event === "reset") {
        this.#restart();
        this.#retry = 100;
        return;
      } else if (event.event === "snapshot" || event.event === "revoked") {
        const snapshot = event.event === "snapshot";
        const page = object(event.data);
        this.#take(page, { snapshot, cursor: event.id ?? (snapshot && !page.more ? page.cursor : undefined) });
      }
    }
  }
}

class NoStream extends Error {}

/** Ends a stream that is silent, and one whose token is soon too old. */
class Watched {
  #controller = new AbortController();
  #silence;
  #renewal;
  opened = false;
  renewing = false;
  heldBack = false;

  constructor(signal, renewIn) {
    this.signal = AbortSignal.any([signal, this.#controller.signal]);
    this.#watch(HELD_BACK_MS, () => (this.heldBack = this.opened));
    if (renewIn < 2 ** 31) {
      this.#renewal = setTimeout(() => {
        this.renewing = true;
        this.#controller.abort();
      }, Math.max(renewIn, 0));
      this.#renewal.unref?.();
    }
  }

  #watch(milliseconds, first = () => {}) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      first();
      this.#controller.abort(new Error("the feed is silent"));
    }, milliseconds);
    this.#silence.unref?.();
  }

  spoke() {
    this.#watch(SILENT_MS);
  }

  end() {
    clearTimeout(this.#silence);
    clearTimeout(this.#renewal);
    this.#controller.abort(); // lets go of a connection that was not read to its end
  }
}
