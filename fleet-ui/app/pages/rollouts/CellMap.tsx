/**
 * A square per device, drawn on a canvas so that a hundred thousand are no effort. Arrow keys walk over the squares, Enter opens the
 * device; the list below the map says the same for who cannot see it.
 */
import { useComputedColorScheme } from "@mantine/core";
import { useDebouncedValue, useElementSize } from "@mantine/hooks";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { api } from "~/api/client";
import { text } from "~/text";
import { grid, idOf, indexAt, OUTCOMES, waveOf, type Cells } from "./cells";
import { TONES } from "./WaveBar";

const TALLEST = 420;
const DWELL_MS = 250;

export function CellMap({ cells }: { cells: Cells }) {
  const scheme = useComputedColorScheme("light");
  const navigate = useNavigate();
  const { ref: frame, width } = useElementSize();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [pointed, setPointed] = useState<number>();
  const count = cells.outcomes.length;
  const made = grid(count, Math.max(1, width), TALLEST);
  const { step, columns, rows } = made;

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    element.width = columns * step * ratio;
    element.height = rows * step * ratio;
    context.scale(ratio, ratio);
    const style = getComputedStyle(element);
    const gap = step > 6 ? 2 : step > 3 ? 1 : 0.5;
    // One colour after the other: changing it for each square costs more than drawing.
    OUTCOMES.forEach((outcome, code) => {
      context.fillStyle = outcome === "waiting" ? style.getPropertyValue("--line") : style.getPropertyValue(`--${TONES[outcome]}`);
      for (let index = 0; index < count; index++) {
        if (cells.outcomes[index] !== code) continue;
        context.fillRect((index % columns) * step, Math.floor(index / columns) * step, step - gap, step - gap);
      }
    });
  }, [cells, columns, rows, step, width, scheme, count]);

  const point = (event: PointerEvent<HTMLCanvasElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    return indexAt(made, count, event.clientX - box.left, event.clientY - box.top);
  };
  const open = (index: number | undefined) => {
    if (index !== undefined) void navigate({ to: "/devices/$device", params: { device: idOf(cells, index) } });
  };
  const walk = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (event.key === "Enter") open(pointed);
    if (by === undefined) return;
    event.preventDefault();
    setPointed(Math.min(count - 1, Math.max(0, (pointed ?? -by) + by)));
  };

  const device = pointed === undefined ? undefined : idOf(cells, pointed);
  const [dwelt] = useDebouncedValue(device, DWELL_MS);
  const named = api.useQuery("get", "/api/v1/devices/{device}", { params: { path: { device: dwelt ?? "" } } }, { enabled: dwelt !== undefined, staleTime: Infinity });
  const name = dwelt === device && named.data ? named.data.name.slice(0, 80) : "";
  const outcome = pointed === undefined ? undefined : OUTCOMES[cells.outcomes[pointed] ?? 0];
  return (
    <div ref={frame}>
      <div className="cell-map">
        <canvas
          ref={canvas}
          role="application"
          tabIndex={0}
          aria-label={text.rollouts.cellsLabel(count)}
          style={{ width: columns * step, height: rows * step }}
          onPointerMove={(event) => setPointed(point(event))}
          onPointerLeave={() => setPointed(undefined)}
          onClick={() => open(pointed)}
          onKeyDown={walk}
          onBlur={() => setPointed(undefined)}
        />
        {pointed !== undefined && (
          <span
            className="cell-mark"
            style={{ left: (pointed % columns) * step - 1, top: Math.floor(pointed / columns) * step - 1, width: step + 1, height: step + 1 }}
          />
        )}
      </div>
      <p className="dim nums cell-said" aria-live="polite">
        {pointed === undefined || !outcome ? text.rollouts.cellsHelp : <><bdi>{name || device}</bdi>{name && ` (${device})`}{`, ${text.rollouts.wave(waveOf(cells, pointed))}, ${text.rollouts.outcomes[outcome]}`}</>}
      </p>
    </div>
  );
}
