import { expect, it } from "vitest";
import { inTurns } from "./inTurns";

it("never does more at once than it may, keeps the order, and goes on after a failure", async () => {
  let open = 0;
  let most = 0;
  let done = 0;
  const outcomes = await inTurns([5, 1, 4, 2, 3], 2, async (n) => {
    most = Math.max(most, ++open);
    await new Promise((resolve) => setTimeout(resolve, n));
    open--;
    if (n === 4) throw new Error("four");
    return n * 10;
  }, () => done++);
  expect(most).toBe(2);
  expect(done).toBe(5);
  expect(outcomes.map((outcome) => (outcome.status === "fulfilled" ? outcome.value : String(outcome.reason)))).toEqual([50, 10, "Error: four", 20, 30]);
});

it("has nothing to do for nobody", async () => {
  expect(await inTurns([], 4, async () => 1)).toEqual([]);
});
