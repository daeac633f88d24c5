// A real browser (Debian's Chromium) is the television at /demo/tv, and another, of a phone's size,
// signs it in: by the address in the QR code, which `zbarimg` reads from the screenshot, and by typing
// the code; with and without JavaScript. Screenshots of every page go to SCREENSHOTS.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const { BASE_URL, LOGIN, PASSWORD, SCREENSHOTS, CHROMIUM = "/usr/bin/chromium" } = process.env;
mkdirSync(SCREENSHOTS, { recursive: true });

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** A page that complains of nothing, and a camera for it. */
const open = async (name, options) => {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(BASE_URL) && !request.url().startsWith("data:")) problems.push(`foreign request: ${request.url()}`);
  });
  let shots = 0;
  const shot = async (what) => {
    const width = await page.evaluate(() => document.documentElement.scrollWidth).catch(() => 0);
    assert.ok(width <= options.viewport.width, `${what} scrolls sideways: ${width}`);
    shots += 1;
    const path = `${SCREENSHOTS}/${name}-${shots}-${what}.png`;
    await page.screenshot({ path, fullPage: true });
    return path;
  };
  const close = async () => {
    assert.deepEqual(problems, [], `${name}: the browser complained`);
    await context.close();
  };
  return { page, shot, close };
};

/** What the QR code on a television says. Its page goes on by itself: a picture can fall between two. */
const scanned = async ({ shot }) => {
  for (let tries = 1; ; tries += 1) {
    const screen = await shot("code");
    try {
      return execFileSync("zbarimg", ["--quiet", "--raw", screen], { encoding: "utf8" }).trim();
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
};

/** The decision on the phone, from the page that asks for the code on. */
const decide = async ({ page, shot }, decision) => {
  await shot("code");
  await page.locator("input[name=user_code]").waitFor();
  await page.locator("button[type=submit]").first().click();
  await page.locator("button[value=continue]").waitFor();
  assert.equal(await page.locator("button[value=allow]").count(), 0, "the card cannot allow");
  await shot("card");
  await page.locator("button[value=continue]").click();
  await page.locator("input[name=password]").waitFor();
  await shot("login");
  await page.locator("input[name=username]").fill(LOGIN);
  await page.locator("input[name=password]").fill(PASSWORD);
  await page.locator("button[type=submit]").first().click();
  await page.locator("button[value=allow]").waitFor();
  await shot("decision");
  const [allow, deny] = await Promise.all(["allow", "deny"].map((value) => page.locator(`button[value=${value}]`).boundingBox()));
  assert.ok(deny.width * deny.height >= allow.width * allow.height * 0.95, "Deny is as large as Allow");
  await page.locator(`button[value=${decision}]`).click();
  await page.locator("form").waitFor({ state: "detached" });
  await shot(decision === "allow" ? "allowed" : "denied");
};

const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const televisions = [
  { name: "wide", viewport: { width: 1280, height: 720 }, javaScriptEnabled: true },
  { name: "narrow", viewport: { width: 320, height: 640 }, javaScriptEnabled: false },
];

for (const { name, ...options } of televisions) {
  const javaScriptEnabled = options.javaScriptEnabled;
  const tv = await open(`tv-${name}`, options);
  await tv.page.goto(`${BASE_URL}/demo`);
  await tv.page.getByRole("link", { name: /television/i }).click();
  const code = await tv.page.locator(".user-code").innerText();
  const link = await scanned(tv);
  assert.ok(link.startsWith(BASE_URL) && link.replaceAll("%2D", "-").includes(code), `the QR code says ${link}, not ${code}`);

  // By the QR code: the code is filled in, and nothing happens until it is sent.
  const scanning = await open(`phone-${name}`, { ...phone, javaScriptEnabled, colorScheme: "light" });
  await scanning.page.goto(link);
  assert.equal(await scanning.page.locator("input[name=user_code]").inputValue(), code);
  await decide(scanning, "allow");
  await tv.page.getByRole("heading", { name: /welcome, ada/i }).waitFor();
  await tv.shot("welcome");
  await scanning.close();

  // Typed, as people type; and declined.
  await tv.page.getByRole("button").click();
  await tv.page.locator(".user-code").waitFor();
  const second = await tv.page.locator(".user-code").innerText();
  assert.notEqual(second, code);
  const address = await tv.page.locator(".address").innerText();
  const typing = await open(`typed-${name}`, { ...phone, javaScriptEnabled, colorScheme: "dark" });
  await typing.page.goto(`http://${address}`);
  await typing.page.locator("input[name=user_code]").fill(second.toLowerCase().replace("-", " "));
  await decide(typing, "deny");
  await tv.page.getByRole("heading", { name: /declined/i }).waitFor();
  await tv.shot("declined");
  await typing.close();
  await tv.page.getByRole("button", { name: /again/i }).click();
  await tv.page.locator(".user-code").waitFor();
  await tv.close();
}
await browser.close();
console.log("browser, device flow: all good");
