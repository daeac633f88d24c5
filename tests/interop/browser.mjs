// A real browser (Debian's Chromium) logs in on /demo and consents, with and without JavaScript.
// Screenshots of every page go to SCREENSHOTS. Exits 0 when each run ended signed in and then out.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const { BASE_URL, LOGIN, PASSWORD, SCREENSHOTS, CHROMIUM = "/usr/bin/chromium" } = process.env;
mkdirSync(SCREENSHOTS, { recursive: true });

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

const looks = [
  { name: "light", viewport: { width: 1280, height: 800 }, colorScheme: "light", javaScriptEnabled: true },
  { name: "dark-nojs", viewport: { width: 1280, height: 800 }, colorScheme: "dark", javaScriptEnabled: false },
  { name: "narrow", viewport: { width: 320, height: 640 }, colorScheme: "light", javaScriptEnabled: false },
];

for (const { name, ...options } of looks) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    // A refused sign-in is answered with 422, which the browser mentions.
    if (message.type() === "error" && !message.text().includes("422")) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(BASE_URL) && !request.url().startsWith("data:")) problems.push(`foreign request: ${request.url()}`);
  });
  let shots = 0;
  const shot = async (what) => {
    const width = await page.evaluate(() => document.documentElement.scrollWidth).catch(() => 0);
    assert.ok(width <= options.viewport.width, `${what} scrolls sideways: ${width}`);
    shots += 1;
    await page.screenshot({ path: `${SCREENSHOTS}/${name}-${shots}-${what}.png`, fullPage: true });
  };

  await page.goto(`${BASE_URL}/demo`);
  await shot("demo");
  await page.getByRole("link", { name: /log in|sign in/i }).first().click();
  await page.locator("input[name=password]").waitFor();
  await shot("login");
  await page.locator("input[name=username]").fill(LOGIN);
  await page.locator("input[name=password]").fill("not the password");
  await page.locator("button[type=submit]").first().click();
  await page.getByRole("alert").waitFor();
  await shot("wrong-password");
  assert.equal(await page.locator("input[name=username]").inputValue(), LOGIN, "the name is kept");
  await page.locator("input[name=password]").fill(PASSWORD);
  await page.locator("button[type=submit]").first().click();
  await page.getByRole("button", { name: /allow/i }).waitFor();
  await shot("consent");
  await page.getByRole("button", { name: /allow/i }).click();
  await page.getByText(/access token/i).first().waitFor();
  await shot("signed-in");
  for (const [what, button] of [["introspected", /introspect/i], ["verified", /verify/i], ["refreshed", /refresh/i], ["revoked", /revoke/i]]) {
    await page.getByRole("button", { name: button }).first().click();
    await page.getByText(/access token/i).first().waitFor();
    await shot(what);
  }
  await page.getByRole("link", { name: /log out|sign out/i }).or(page.getByRole("button", { name: /log out|sign out/i })).first().click();
  await page.getByRole("button", { name: /log out|sign out/i }).first().waitFor();
  await shot("logout");
  await page.getByRole("button", { name: /log out|sign out/i }).first().click();
  await page.getByRole("link", { name: /log in|sign in/i }).first().waitFor();
  await shot("signed-out");
  assert.deepEqual(problems, [], `${name}: the browser complained`);
  await context.close();
}
await browser.close();
console.log("browser: all good");
