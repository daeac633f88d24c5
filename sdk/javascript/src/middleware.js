// For Express (and Connect, Polka, plain node:http), and for handlers of Request and Response.

const HTTP = new Set(["missing_token", "invalid_request", "invalid_token", "insufficient_scope", "unavailable"]);

/** Express middleware: puts the token at `req.auth`, or answers itself. */
export function express(verifier, scopes) {
  return (req, res, next) => {
    const passed = (token) => {
      req.auth = token;
      next();
    };
    const refused = (error) => {
      if (!HTTP.has(error?.code)) return next(error);
      const { status, headers, body } = verifier.refusal(error);
      res.writeHead(status, headers).end(body);
    };
    verifier.authenticate(req.headers.authorization, { scopes }).then(passed, refused).catch(next);
  };
}

/** A handler of `Request` that is called only with a good token: `(request, token, ...rest)`. */
export function fetchHandler(verifier, handle, scopes) {
  return async (request, ...rest) => {
    let token;
    try {
      token = await verifier.authenticate(request.headers.get("authorization"), { scopes });
    } catch (error) {
      if (!HTTP.has(error?.code)) throw error;
      const { status, headers, body } = verifier.refusal(error);
      return new Response(body, { status, headers });
    }
    return handle(request, token, ...rest);
  };
}
