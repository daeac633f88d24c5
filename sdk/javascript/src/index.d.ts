/** A verified access token, opaque token or API key. */
export interface Token {
  readonly kind: "jwt" | "opaque" | "api_key";
  readonly issuer: string;
  readonly subject: string;
  readonly clientId: string;
  readonly audience: readonly string[];
  readonly scopes: readonly string[];
  /** Unix seconds. */
  readonly expiresAt: number | undefined;
  readonly claims: Readonly<Record<string, unknown>>;
  hasScope(scope: string): boolean;
}

export interface Credentials {
  clientId: string;
  clientSecret: string;
  authMethod?: "client_secret_basic" | "client_secret_post";
  /** The `resource` (RFC 8707) to ask the feed's token for, where the tenant has no default. */
  resource?: string;
}

/** Gives a token with scope `revocations:read`; called at every connection, so keep it yourself. */
export type FeedToken = (about: { issuer: string }) => string | Promise<string>;

export interface IssuerOptions {
  issuer: string;
  audience?: string | string[];
  credentials?: Credentials;
  feedToken?: FeedToken;
  algorithms?: string[];
  /** Whether opaque tokens and API keys may be shown to this issuer. Default: if it is the only one with credentials. */
  opaque?: boolean;
}

export type Event =
  | { issuer: string; event: "feed_loaded" | "feed_lost" | "feed_live" }
  | { issuer: string; event: "unknown_entries"; count: number }
  | { issuer: string; event: "feed_failed" | "keys_failed" | "introspection_failed" | "status_list_failed"; error: unknown };

export interface Options {
  issuers: string | IssuerOptions | (string | IssuerOptions)[];
  /** What this API is called in `aud`; a token needs one of them. */
  audience?: string | string[];
  /** Default `local`. */
  mode?: "local" | "feed" | "introspect" | "status_list";
  credentials?: Credentials;
  feedToken?: FeedToken;
  /** When the feed (or status list) is lost: default `fail_closed`, 503. Grace is in seconds. */
  onFeedLoss?: "fail_closed" | "introspect" | { grace: number };
  /** Seconds by which clocks may differ, 0 to 60; default 10. */
  leeway?: number;
  algorithms?: string[];
  realm?: string;
  /** The address of this API's RFC 9728 metadata, told with every refusal. */
  resourceMetadata?: string;
  /** An unknown `kid` makes the keys be fetched again at most every so many seconds; default 30. */
  jwksCooldown?: number;
  /** Seconds that an introspection answer is kept at most, within its Cache-Control; default 60. */
  introspectionMaxAge?: number;
  /** Tokens that are remembered; default 10 000. */
  cacheSize?: number;
  transport?: "auto" | "sse" | "poll";
  /** Origins beside the issuer's own that status lists may be fetched from. */
  statusListOrigins?: string[];
  /** Allows http beyond loopback. For test networks only. */
  allowInsecure?: boolean;
  onEvent?: (event: Event) => void;
  fetch?: typeof globalThis.fetch;
  /** Milliseconds: Unix time, and a clock that never jumps. For tests. */
  clock?: { wall(): number; mono(): number };
}

export interface Needs {
  scopes?: string[];
}

export class VerifyError extends Error {
  readonly code: "missing_token" | "invalid_request" | "invalid_token" | "insufficient_scope" | "unavailable";
  readonly status: 400 | 401 | 403 | 503;
  /** For your log; never part of an answer. */
  readonly reason: string;
  readonly scopes: string[];
  readonly retryAfter: number;
}

export interface Refusal {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** What the middleware needs of a Node.js or Express request and response. */
export interface IncomingLike {
  headers: { authorization?: string | undefined };
}
export interface OutgoingLike {
  writeHead(status: number, headers: Record<string, string>): this;
  end(body: string): unknown;
}
export type Middleware = (req: IncomingLike & { auth?: Token }, res: OutgoingLike, next: (error?: any) => void) => void;

export interface Health {
  issuer: string;
  ready: boolean;
  feed?: "loading" | "live" | "lost";
  entries?: number;
}

export interface Verifier {
  /** Resolves when requests can be answered; rejects at `timeout` (milliseconds) or `close()`. */
  ready(wait?: { timeout?: number }): Promise<void>;
  health(): Health[];
  /** Ends streams, timers and requests under way. */
  close(): void;
  /** @throws {VerifyError} */
  verify(token: string, needs?: Needs): Promise<Token>;
  /** The same for an `Authorization` header. @throws {VerifyError} */
  authenticate(header: string | null | undefined, needs?: Needs): Promise<Token>;
  /** The answer that a `VerifyError` deserves (RFC 6750 §3). */
  refusal(error: unknown): Refusal;
  /** Middleware that lets good tokens pass, as `req.auth`. */
  express(): Middleware;
  /** The same, for tokens with all of these scopes. */
  requireScope(...scopes: string[]): Middleware;
  /** Wraps a handler of `Request` and `Response`. */
  handler<Rest extends unknown[]>(
    handle: (request: Request, token: Token, ...rest: Rest) => Response | Promise<Response>,
    needs?: Needs,
  ): (request: Request, ...rest: Rest) => Promise<Response>;
}

export function createVerifier(options: Options): Verifier;
