/**
 * Pictures of every page in both colour schemes, for the documentation: `AIDOS_SCREENSHOTS=1 npm run journeys` writes them to
 * `docs/images/ui`.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, it } from "vitest";
import { open, signIn } from "./browser";
import { push } from "./models";
import { pagesOf } from "./pages";
import { browser, stack } from "./stage";
import { eventually } from "./stack";

const FOLDER = join(import.meta.dirname, "../../docs/images/ui");

let shown: { readonly device: string; readonly rollout: string };

beforeAll(async () => {
  mkdirSync(FOLDER, { recursive: true });
  const device = await stack.device("line-3-camera", { site: "lab", line: "3", lat: "48.1", lon: "11.6" });
  await stack.device("line-4-camera", { site: "lab", line: "4", lat: "52.5", lon: "13.4" });
  push(stack, 2);
  const plan = { waves: "1,100%", soak_s: 1 };
  const { id } = await stack.api<{ id: string }>("POST", "rollouts", { subject: "digits@2", selector: "", plan });
  await eventually("the rollout is finished", async () => (await stack.api<{ phase: string }>("GET", `rollouts/${id}`)).phase === "finished");
  shown = { device, rollout: id };
});
it.each(["light", "dark"] as const)("every page in %s", async (scheme) => {
  const { page, context } = await open(browser, stack, { scheme });
  await page.goto("/sign-in");
  await page.getByLabel("API key").waitFor();
  await page.screenshot({ path: join(FOLDER, `sign-in-${scheme}.png`) });
  await signIn(page, stack.ownerKey);
  for (const { name, path, heading } of pagesOf(shown)) {
    await page.goto(path);
    await page.getByRole("heading", { level: 1, name: heading }).waitFor();
    await page.getByText(/Live$/).waitFor();
    await page.waitForFunction(() => !document.querySelector("[class*=Skeleton]"));
    await page.screenshot({ path: join(FOLDER, `${name}-${scheme}.png`) });
  }
  await context.close();
});
