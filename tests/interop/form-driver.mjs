// Drives the server's pages as a browser without JavaScript would: cookies, redirects, the
// `Refresh` header, and HTML forms. Stops when it is sent to `stopAt`.

const attribute = (tag, name) => {
  const found = tag.match(new RegExp(`\\b${name}="([^"]*)"`, "i"));
  return found ? found[1].replaceAll("&amp;", "&").replaceAll("&#x2f;", "/").replaceAll("&quot;", '"') : undefined;
};

/** A cookie jar for one origin. */
export class Browser {
  cookies = new Map();
  trail = [];

  async fetch(url, init = {}) {
    const headers = new Headers(init.headers);
    headers.set("accept", "text/html");
    if (this.cookies.size > 0) {
      headers.set("cookie", [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; "));
    }
    const response = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(";");
      const at = pair.indexOf("=");
      const gone = attributes.some((a) => /^\s*max-age=0$/i.test(a));
      if (gone) this.cookies.delete(pair.slice(0, at));
      else this.cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    this.trail.push(`${init.method ?? "GET"} ${new URL(url).pathname} ${response.status}`);
    return response;
  }

  /** Where a response leads without anyone doing anything, if anywhere. */
  static onward(response, base) {
    const refresh = response.headers.get("refresh")?.match(/url=(.*)$/i)?.[1];
    const target = response.headers.get("location") ?? refresh;
    return target ? new URL(target, base).href : undefined;
  }

  /** Goes from `url` through every page to one without a form, and returns it. */
  finish(url, answers) {
    return this.walk(url, null, answers);
  }

  /** Goes from `url` through every page to `stopAt`; `answers` fills the forms by field name, and for
   * buttons lists the values to press. */
  async walk(url, stopAt, answers) {
    let response = await this.fetch(url);
    for (let step = 0; step < 20; step += 1) {
      const onward = Browser.onward(response, url);
      if (stopAt !== null && onward?.startsWith(stopAt)) return onward;
      if (onward) {
        url = onward;
        response = await this.fetch(url);
        continue;
      }
      const html = await response.text();
      const form = html.match(/<form\b[^>]*method="post"[^>]*>[\s\S]*?<\/form>/i)?.[0];
      if (!form && stopAt === null && response.status === 200) return html;
      if (!form) throw new Error(`stuck at ${url} (${response.status})\n${this.trail.join("\n")}\n${html}`);
      const fields = new URLSearchParams();
      for (const [tag] of form.matchAll(/<input\b[^>]*>/gi)) {
        const name = attribute(tag, "name");
        if (!name || /type="(submit|checkbox)"/i.test(tag)) continue;
        fields.set(name, answers[name] ?? attribute(tag, "value") ?? "");
      }
      const button = [...form.matchAll(/<(button|input)\b[^>]*>/gi)]
        .map(([tag]) => tag)
        .find((tag) => attribute(tag, "name") && [answers[attribute(tag, "name")]].flat().includes(attribute(tag, "value")) && /submit/i.test(tag));
      if (button) fields.set(attribute(button, "name"), attribute(button, "value"));
      url = new URL(attribute(form.match(/<form\b[^>]*>/i)[0], "action") ?? url, url).href;
      response = await this.fetch(url, {
        method: "POST",
        body: fields,
        headers: { origin: new URL(url).origin, "sec-fetch-site": "same-origin" },
      });
    }
    throw new Error(`too many steps\n${this.trail.join("\n")}`);
  }
}
