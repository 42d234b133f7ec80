/** Devices on a map of the world that is part of the page: no tiles are fetched from anybody. */
import { Skeleton, Text } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { geoNaturalEarth1, geoPath } from "d3-geo";
import { useMemo, useState } from "react";
import { feature } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import land from "world-atlas/land-110m.json";
import { http, type Schemas } from "~/api/client";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { integer } from "~/ui/format";
import { Name } from "~/ui/Name";
import { Empty } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { STATE_TONES } from "./Devices";
import "./devices.css";
import { clusters, narrowed, placeOf, type Cluster } from "./places";

type Device = Schemas["DeviceView"];
type Query = { selector?: string | undefined; q?: string | undefined; state?: Device["state"] | undefined };

const words = text.devices;
const SQUARE = 26;
const LISTED = 100;
const PAGE = 1_000;
/** Devices that are drawn; a map of more says nothing more. */
const MOST = 20_000;
/** A fleet of thousands changes all the time: it is looked at again, instead of for each event. */
const LOOK_MS = 30_000;
const topology = land as unknown as Topology<{ land: GeometryCollection }>;
const earth = feature(topology, topology.objects.land);

/** All devices of the query that carry a location, page by page. */
async function located(query: Query, signal: AbortSignal): Promise<{ devices: Device[]; more: boolean }> {
  const found = new Map<string, Device>();
  for (const keys of ["lat,lon", "location"]) {
    let cursor: string | undefined;
    do {
      const { data } = await http.GET("/api/v1/devices", { params: { query: { ...query, selector: narrowed(query.selector, keys), limit: PAGE, cursor } }, signal });
      for (const device of data?.items ?? []) found.set(device.id, device);
      cursor = data?.next_cursor ?? undefined;
      if (found.size >= MOST) return { devices: [...found.values()], more: cursor !== undefined };
    } while (cursor);
  }
  return { devices: [...found.values()], more: false };
}

export default function DeviceMap({ query }: { query: Query }) {
  const navigate = useNavigate();
  const { ref, width } = useElementSize();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const read = useQuery({ queryKey: ["get", "devices on the map", query], queryFn: ({ signal }) => located(query, signal), refetchInterval: LOOK_MS });
  const places = useMemo(() => (read.data?.devices ?? []).map(placeOf).filter((place) => place !== undefined), [read.data]);
  const height = Math.round(width * 0.5);
  const { outline, shown } = useMemo(() => {
    const projection = geoNaturalEarth1().fitSize([Math.max(1, width), Math.max(1, height)], { type: "Sphere" });
    return { outline: geoPath(projection)(earth) ?? "", shown: clusters(places, ({ longitude, latitude }) => projection([longitude, latitude]), SQUARE) };
  }, [places, width, height]);

  if (read.error && !read.data) return <ErrorPanel error={read.error} retry={read.refetch} />;
  if (!read.data) return <Skeleton height={420} />;
  if (places.length === 0) {
    return <div className="section"><Empty title={words.mapEmpty} lead={words.mapEmptyLead} command="aidos device label DEVICE lat=52.52 lon=13.40" /></div>;
  }
  const choose = ({ devices }: Cluster) => {
    const [only] = devices;
    if (devices.length === 1 && only) void navigate({ to: "/devices/$device", params: { device: only.id } });
    else setChosen(new Set(devices.map(({ id }) => id)));
  };
  const listed = places.filter(({ device }) => chosen.size === 0 || chosen.has(device.id)).map(({ device }) => device);
  return (
    <div className="section">
      <Text size="sm" className="dim" mb="sm">{words.mapLead} {read.data.more && words.mapPart(places.length)}</Text>
      <div ref={ref}>
        <svg className="map" width={width} height={height} role="group" aria-label={words.map}>
          <path className="map-land" d={outline} />
          {shown.map((cluster) => <Spot key={cluster.devices[0]!.id} cluster={cluster} choose={() => choose(cluster)} />)}
        </svg>
      </div>
      <div className="map-list">
        <Text size="sm" fw={600} role="status">{words.onMap(Math.min(LISTED, listed.length), listed.length)}</Text>
        {chosen.size > 0 && <button type="button" className="sort" onClick={() => setChosen(new Set())}>{words.allOnMap}</button>}
      </div>
      <div className="rows">
        {listed.slice(0, LISTED).map((device) => (
          <Link key={device.id} to="/devices/$device" params={{ device: device.id }}>
            <Name>{device.name}</Name>
            <StateBadge tone={STATE_TONES[device.state]}>{words.states[device.state]}</StateBadge>
          </Link>
        ))}
      </div>
    </div>
  );
}

function Spot({ cluster, choose }: { cluster: Cluster; choose: () => void }) {
  const { x, y, devices } = cluster;
  const off = devices.filter(({ state }) => state !== "online").length;
  const label = devices.length === 1 ? `${devices[0]!.name.slice(0, 80)}, ${words.states[devices[0]!.state]}` : words.spot(devices.length, off);
  return (
    <g
      role="button" tabIndex={0} className="map-spot" transform={`translate(${x} ${y})`} aria-label={label}
      onClick={choose} onKeyDown={(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), choose())}
    >
      <title>{label}</title>
      <circle r={devices.length > 1 ? 10 + 2 * Math.log10(devices.length) : 6} className={off > 0 ? "map-warn" : "map-good"} />
      {devices.length > 1 && <text dy="0.35em">{devices.length > 999 ? "999+" : integer(devices.length)}</text>}
    </g>
  );
}
