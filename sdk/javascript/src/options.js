// The options, checked whole before anything starts.
import { isSafe } from "./http.js";

const MODES = ["local", "feed", "introspect", "status_list"];
const KNOWN = new Set([
  "issuers", "audience", "mode", "credentials", "feedToken", "onFeedLoss", "leeway", "algorithms", "realm",
  "resourceMetadata", "jwksCooldown", "introspectionMaxAge", "cacheSize", "transport", "statusListOrigins",
  "allowInsecure", "onEvent", "fetch", "clock",
]);
const ALGORITHMS = /^(ES(256|384|512)|[RP]S(256|384|512)|EdDSA|Ed25519)$/;

const refuse = (text) => {
  throw new TypeError(`@pmp-auth/verify: ${text}`);
};

function between(value, name, least, most) {
  if (!(typeof value === "number" && value >= least && value <= most)) refuse(`${name} is a number from ${least} to ${most}`);
  return value;
}

function texts(value, name) {
  const list = Array.isArray(value) ? value : [value];
  if (list.length === 0 || !list.every((one) => typeof one === "string" && one !== "")) refuse(`${name} is required`);
  return list;
}

function loss(policy) {
  if (policy === "fail_closed" || policy === "introspect") return { policy };
  if (policy?.grace !== undefined) return { policy: "grace", seconds: between(policy.grace, "onFeedLoss.grace", 0, 86_400) };
  return refuse('onFeedLoss is "fail_closed", "introspect" or { grace: seconds }');
}

function issuer(one, options, mode) {
  const own = typeof one === "string" ? { issuer: one } : one;
  const url = own?.issuer;
  if (typeof url !== "string" || !isSafe(url, options.allowInsecure)) refuse(`issuer ${url} is not an https address`);
  if (/[?#]/.test(url)) refuse(`issuer ${url} has a query or a fragment`);
  const credentials = own.credentials ?? options.credentials;
  if (credentials && !(credentials.clientId && credentials.clientSecret)) refuse("credentials are { clientId, clientSecret }");
  const feedToken = own.feedToken ?? options.feedToken;
  if (mode === "introspect" && !credentials) refuse("introspection needs credentials");
  if (mode === "feed" && !credentials && !feedToken) refuse("the feed needs credentials or feedToken");
  const algorithms = own.algorithms ?? options.algorithms;
  if (algorithms && !algorithms.every((alg) => ALGORITHMS.test(alg))) refuse("algorithms are asymmetric ones");
  return { url, audience: texts(own.audience ?? options.audience, "audience"), credentials, feedToken, algorithms, opaque: own.opaque };
}

/** `{ mode, issuers, presentation, context }` of the options of `createVerifier`. */
export function checked(options) {
  for (const name of Object.keys(options ?? {})) if (!KNOWN.has(name)) refuse(`there is no option ${name}`);
  const { mode = "local" } = options ?? {};
  if (!MODES.includes(mode)) refuse(`mode is one of ${MODES.join(", ")}`);
  if (!options?.issuers?.length) refuse("issuers is required");
  const policy = loss(options.onFeedLoss ?? "fail_closed");
  const issuers = [options.issuers].flat().map((one) => issuer(one, options, mode));
  if (new Set(issuers.map(({ url }) => url)).size < issuers.length) refuse("an issuer is there twice");
  if (policy.policy === "introspect" && issuers.some(({ credentials }) => !credentials)) refuse("introspection needs credentials");
  // An opaque token names no issuer. With several, it goes only to those that are meant to see it.
  const able = issuers.filter(({ credentials }) => credentials);
  for (const one of issuers) one.opaque = Boolean(one.credentials && (one.opaque ?? able.length === 1));
  const context = {
    mode,
    loss: policy,
    leeway: between(options.leeway ?? 10, "leeway", 0, 60),
    jwksCooldown: between(options.jwksCooldown ?? 30, "jwksCooldown", 1, 3600),
    introspectionMaxAge: between(options.introspectionMaxAge ?? 60, "introspectionMaxAge", 0, 3600),
    cacheSize: between(options.cacheSize ?? 10_000, "cacheSize", 1, 10_000_000),
    transport: options.transport ?? "auto",
    statusListOrigins: options.statusListOrigins ?? [],
    allowInsecure: options.allowInsecure ?? false,
    fetch: options.fetch ?? ((...all) => globalThis.fetch(...all)),
    clock: options.clock ?? { wall: () => Date.now(), mono: () => performance.now() },
    report: (event) => {
      try {
        options.onEvent?.(event);
      } catch {
        // A listener's fault is not a request's.
      }
    },
  };
  if (!["auto", "sse", "poll"].includes(context.transport)) refuse("transport is auto, sse or poll");
  return { mode, issuers, context, presentation: { realm: options.realm, resourceMetadata: options.resourceMetadata } };
}
