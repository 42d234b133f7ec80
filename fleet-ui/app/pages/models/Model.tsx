/** One model: its versions, its card, where it runs, how it does there, and a place to try it. */
import { Skeleton, Tabs } from "@mantine/core";
import { IconRocket } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { api } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ButtonLink } from "~/ui/ButtonLink";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { PAGE, paging, rowsOf } from "~/ui/paging";
import { PageHead } from "~/ui/Section";
import "./models.css";
import { TABS } from "./routes";
import { RunsWhere } from "./RunsWhere";
import { Versions } from "./Versions";

const Card = lazy(async () => ({ default: (await import("./Card")).Card }));
const Measured = lazy(async () => ({ default: (await import("./Measured")).Measured }));
const TryIt = lazy(async () => ({ default: (await import("./TryIt")).TryIt }));
const words = text.models;
const route = getRouteApi("/shell/models/$model");

export function Model() {
  const { model: name } = route.useParams();
  const search = route.useSearch();
  // Asking a model on a device is for operators.
  const tabs = TABS.filter((one) => one !== "try" || session.may("operator"));
  const tab = tabs.find((one) => one === search.tab) ?? "versions";
  const navigate = route.useNavigate();
  const model = api.useQuery("get", "/api/v1/models/{name}", { params: { path: { name } } });
  const versions = api.useInfiniteQuery("get", "/api/v1/models/{name}/versions", { params: { path: { name }, query: { limit: PAGE } } }, paging);
  if (model.error && !model.data) return <ErrorPanel error={model.error} retry={model.refetch} />;
  const view = model.data;
  if (!view) return <Skeleton height={320} />;
  const listed = versions.data && !versions.isPlaceholderData ? rowsOf(versions) : undefined;
  return (
    <>
      <PageHead title={view.name} heading={<Name lines={2}>{view.name}</Name>}>
        {view.latest_version && session.may("operator") && (
          <ButtonLink leftSection={<IconRocket size={16} />} to="/rollouts/new" search={{ subject: `${view.name}@${view.latest_version}` }}>{words.rollOutVersion(view.latest_version)}</ButtonLink>
        )}
      </PageHead>
      {view.description && <p className="dim wrap model-lead"><bdi>{view.description}</bdi></p>}
      <Tabs value={tab} keepMounted={false} onChange={(value) => void navigate({ search: (before) => ({ ...before, tab: TABS.find((one) => one === value) }), replace: true })}>
        <Tabs.List mb="md">{tabs.map((value) => <Tabs.Tab key={value} value={value}>{words.tabs[value]}</Tabs.Tab>)}</Tabs.List>
        <Suspense fallback={<Skeleton height={240} />}>
          <Tabs.Panel value="versions">
            {versions.error && !listed ? <ErrorPanel error={versions.error} retry={versions.refetch} /> : listed ? <Versions model={view} pages={versions} /> : <Skeleton height={240} />}
          </Tabs.Panel>
          <Tabs.Panel value="card"><Card model={view} /></Tabs.Panel>
          <Tabs.Panel value="devices"><RunsWhere model={view.name} /></Tabs.Panel>
          <Tabs.Panel value="measured"><Measured model={view.name} /></Tabs.Panel>
          <Tabs.Panel value="try">{listed ? <TryIt model={view.name} versions={listed} /> : <Skeleton height={240} />}</Tabs.Panel>
        </Suspense>
      </Tabs>
    </>
  );
}
