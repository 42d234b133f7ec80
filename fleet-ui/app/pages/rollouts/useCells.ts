/** The cells of a rollout, kept up to date: ids are read once, outcomes whenever the rollout changed. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { http } from "~/api/client";
import { read, type Cells } from "./cells";

const PATH = "/api/v1/rollouts/{id}/cells";

export function useCells(id: string) {
  const queries = useQueryClient();
  // As the generated client names it, so that the same events make it stale.
  const queryKey = ["get", PATH, { params: { path: { id } } }] as const;
  return useQuery({
    queryKey,
    structuralSharing: false,
    queryFn: async ({ signal }): Promise<Cells> => {
      const ask = async (ids: boolean) => (await http.GET(PATH, { params: { path: { id }, query: { ids } }, signal })).data!;
      const before = queries.getQueryData<Cells>(queryKey);
      const cells = read(await ask(before === undefined), before) ?? read(await ask(true));
      if (!cells) throw new Error("the cells are not as many as their ids");
      return cells;
    },
  });
}
