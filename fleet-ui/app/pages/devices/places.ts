/** Where devices are, from their labels: `lat` and `lon`, or `location=52.5,13.4`, in degrees. Pure. */
import type { Schemas } from "~/api/client";

type Device = Schemas["DeviceView"];

export interface Place {
  readonly device: Device;
  readonly longitude: number;
  readonly latitude: number;
}

function degrees(text: string | undefined, most: number): number | undefined {
  const value = text?.trim() ? Number(text) : NaN;
  return Math.abs(value) <= most ? value : undefined;
}

export function placeOf(device: Device): Place | undefined {
  const { lat, lon, location = "" } = device.labels;
  const [north, east, ...more] = location.split(",");
  const pairs = [[lat, lon], more.length === 0 ? [north, east] : []];
  for (const pair of pairs) {
    const [latitude, longitude] = [degrees(pair[0], 90), degrees(pair[1], 180)];
    if (latitude !== undefined && longitude !== undefined) return { device, latitude, longitude };
  }
  return undefined;
}

/** `selector` narrowed to those that have a location by these labels. */
export const narrowed = (selector: string | undefined, keys: string): string => {
  const whole = selector?.trim() ?? "";
  return whole === "" || whole === "*" || whole === "all" ? keys : `${whole},${keys}`;
};

export interface Cluster {
  readonly x: number;
  readonly y: number;
  readonly devices: readonly Device[];
}

/** Places that lie in the same square of `size` pixels, as one at their middle. */
export function clusters(places: readonly Place[], project: (place: Place) => readonly [number, number] | null, size: number): Cluster[] {
  const squares = new Map<string, { x: number; y: number; devices: Device[] }>();
  for (const place of places) {
    const at = project(place);
    if (!at) continue;
    const key = `${Math.floor(at[0] / size)}:${Math.floor(at[1] / size)}`;
    const square = squares.get(key) ?? { x: 0, y: 0, devices: [] };
    square.x += at[0];
    square.y += at[1];
    square.devices.push(place.device);
    squares.set(key, square);
  }
  return [...squares.values()].map(({ x, y, devices }) => ({ x: x / devices.length, y: y / devices.length, devices }));
}
