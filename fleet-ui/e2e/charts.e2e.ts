/** A device's charts. */
import { expect, it } from "vitest";
import { open, signIn } from "./browser";
import { browser, local, stack } from "./stage";

it("stay as they are while a span that was drawn over one of them is read, and as time goes on", async () => {
  const { page, context, faults } = await open(browser, stack);
  await page.goto(`/devices/${local.id}?tab=vitals&range=15m`);
  await signIn(page, stack.ownerKey);
  const chart = page.locator(".vitals .u-over").first();
  await chart.waitFor();
  // The very element, not one like it: a chart that is made anew flickers, and forgets what is pointed at.
  await chart.evaluate((element) => element.setAttribute("data-first", ""));
  const moved = page.waitForResponse(/\/telemetry\?/);
  await (await moved).finished();
  const { x, y, width, height } = (await chart.boundingBox())!;
  await page.mouse.move(x + width / 2, y + height / 2);
  await page.mouse.down();
  await page.mouse.move(x + width - 1, y + height / 2, { steps: 5 });
  const drawn = page.waitForResponse(/\/telemetry\?/);
  await page.mouse.up();
  await page.waitForURL((url) => url.searchParams.has("from"));
  await (await drawn).finished();
  await expect.poll(() => page.locator(".vitals .u-over[data-first]").count()).toBe(1);
  // What was drawn is half of what was shown.
  const { searchParams } = new URL(page.url());
  const span = Number(searchParams.get("to")!.replaceAll('"', "")) - Number(searchParams.get("from")!.replaceAll('"', ""));
  expect(span).toBeGreaterThan(440);
  expect(span).toBeLessThan(460);
  expect(faults.said).toEqual([]);
  await context.close();
});
