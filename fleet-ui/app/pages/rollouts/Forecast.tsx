/** What a rollout would do now: whom it reaches, what they fetch, how long it takes at the least. */
import { Alert, Skeleton, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { Schemas } from "~/api/client";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { bytes, duration, integer } from "~/ui/format";
import { Name } from "~/ui/Name";
import { KeyValue } from "~/ui/Section";

const words = text.rollouts;
const SHOWN = 8;

interface Props {
  readonly forecast: Schemas["RolloutForecast"] | undefined;
  /** Whether a version is named at all. */
  readonly wanted: boolean;
  readonly error: unknown;
}

export function Forecast({ forecast, wanted, error }: Props) {
  if (error && !forecast) return <ErrorPanel error={error} />;
  if (!wanted) return <Text size="sm" className="dim">{words.chooseFirst}</Text>;
  if (!forecast) return <Skeleton height={220} />;
  const most = Math.max(1, ...forecast.waves.map((wave) => wave.devices));
  return (
    <div className="stack">
      <Text m={0}><strong className="big">{integer(forecast.matching)}</strong> <span className="dim">{words.devicesMatch}</span></Text>
      {forecast.matching === 0 && <Alert variant="default" role="status">{words.nobody}</Alert>}
      {forecast.unfit > 0 && (
        <Alert variant="default" title={words.unfit(forecast.unfit)}>
          {forecast.unfit_reasons.slice(0, 5).map((reason) => <div key={reason}><bdi>{reason}</bdi></div>)}
        </Alert>
      )}
      <KeyValue
        items={[
          [words.version, `${forecast.subject}@${forecast.version}`],
          [words.atMost, bytes(forecast.bytes_at_most)],
          [words.atLeast, duration(forecast.seconds_at_least)],
          [words.already, words.present(forecast.present)],
        ]}
      />
      <table className="plain">
        <thead><tr><th>{words.waves}</th><th className="end">{text.devices.title}</th><th style={{ width: "45%" }} aria-hidden /></tr></thead>
        <tbody>
          {forecast.waves.map((wave, index) => (
            <tr key={index}>
              <td className="mono">{wave.share}</td>
              <td className="end nums">{integer(wave.devices)}</td>
              <td aria-hidden><span className="bar">{wave.devices > 0 && <span className="tag-busy" style={{ width: `${(wave.devices / most) * 100}%` }} />}</span></td>
            </tr>
          ))}
        </tbody>
      </table>
      {forecast.devices.length > 0 && (
        <div>
          <Text size="sm" fw={500} mb={4}>{words.firstDevices}</Text>
          <div className="rows">
            {forecast.devices.slice(0, SHOWN).map((device) => (
              <Link key={device.device} to="/devices/$device" params={{ device: device.device }}>
                <Name>{device.name}</Name>
                <span className="dim nowrap">{device.current_version ? words.has(device.current_version) : words.hasNone}{device.online ? "" : `, ${text.devices.states.offline}`}</span>
              </Link>
            ))}
          </div>
        </div>
      )}
    </div>
  );
}
