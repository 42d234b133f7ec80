/** Does `act` for each item, at most `atOnce` at the same time; the outcomes stand in the order of the items. */
export async function inTurns<T, R>(items: readonly T[], atOnce: number, act: (item: T) => Promise<R>, each?: () => void): Promise<PromiseSettledResult<R>[]> {
  const outcomes: PromiseSettledResult<R>[] = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      try {
        outcomes[index] = { status: "fulfilled", value: await act(items[index]!) };
      } catch (reason) {
        outcomes[index] = { status: "rejected", reason };
      }
      each?.();
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return outcomes;
}
