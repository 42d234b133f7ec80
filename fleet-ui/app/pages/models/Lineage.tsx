/** Versions as a line, the newest on top: each follows the one below it; aliases stand where they point. */
import { Link } from "@tanstack/react-router";
import type { Schemas } from "~/api/client";
import { text } from "~/text";
import { bytes } from "~/ui/format";
import { Name } from "~/ui/Name";
import { TimeAgo } from "~/ui/TimeAgo";

interface Props {
  readonly model: Schemas["ModelView"];
  readonly versions: readonly Schemas["ModelVersionView"][];
  readonly chosen: number;
}

export function Lineage({ model, versions, chosen }: Props) {
  return (
    <ol className="lineage" aria-label={text.models.lineage}>
      {versions.map((version) => (
        <li key={version.version} className={version.version === chosen ? "chosen" : undefined}>
          <Link to="/models/$model" params={{ model: model.name }} search={{ version: String(version.version) }} resetScroll={false} aria-current={version.version === chosen ? "true" : undefined}>
            <span><strong>{text.models.version} {version.version}</strong> <span className="dim nums">{bytes(version.size)}</span></span>
            <span className="dim"><TimeAgo at={version.created_at} /></span>
          </Link>
          {(version.aliases.length > 0 || version.source) && (
            <span className="chips">
              {version.aliases.map((alias) => <span key={alias} className="chip"><Name>{alias}</Name></span>)}
              {version.source && <span className="dim"><Name>{version.source}</Name></span>}
            </span>
          )}
        </li>
      ))}
    </ol>
  );
}
