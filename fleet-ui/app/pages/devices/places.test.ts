import { expect, it } from "vitest";
import type { Schemas } from "~/api/client";
import { clusters, narrowed, placeOf } from "./places";

const device = (id: string, labels: Record<string, string>) => ({ id, labels, state: "online" }) as Schemas["DeviceView"];

it("reads degrees and nothing else", () => {
  expect(placeOf(device("a", { lat: "52.5", lon: " -13.4 " }))).toMatchObject({ latitude: 52.5, longitude: -13.4 });
  expect(placeOf(device("a", { location: "52.5, 13.4" }))).toMatchObject({ latitude: 52.5, longitude: 13.4 });
  expect(placeOf(device("a", { lat: "north", lon: "1", location: "-1,2" }))).toMatchObject({ latitude: -1, longitude: 2 });
  for (const labels of [{}, { lat: "52" }, { lat: "91", lon: "0" }, { lat: "0", lon: "181" }, { lat: "", lon: "" }, { location: "52.5" }, { location: "1,2,3" }, { location: "here" }, { location: "," }]) {
    expect(placeOf(device("a", labels as Record<string, string>))).toBeUndefined();
  }
});

it("asks for those with a location only", () => {
  expect(narrowed(undefined, "lat,lon")).toBe("lat,lon");
  expect(narrowed("*", "location")).toBe("location");
  expect(narrowed("site=lab", "lat,lon")).toBe("site=lab,lat,lon");
});

it("gathers what lies close together", () => {
  const places = [[1, 1], [3, 3], [50, 50]].map(([longitude, latitude], at) => ({ device: device(String(at), {}), longitude: longitude!, latitude: latitude! }));
  const made = clusters(places, ({ longitude, latitude }) => [longitude, latitude], 10);
  expect(made.map(({ x, y, devices }) => [x, y, devices.length])).toEqual([[2, 2, 2], [50, 50, 1]]);
  expect(clusters(places, () => null, 10)).toEqual([]);
});
