/** Versions of the sample model as files to push. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Stack } from "./stack";

const ROOT = join(import.meta.dirname, "../..");

/** Another file of the same model: ONNX's field 6, its documentation, says the number. Pushed as the next version. */
export function push(stack: Stack, number: number, more: string[] = []): void {
  const file = join(stack.folder, `digits-${number}.onnx`);
  const said = Buffer.from(`v${number}`);
  writeFileSync(file, Buffer.concat([readFileSync(join(ROOT, "models/digits/digits.onnx")), Buffer.from([0x32, said.length]), said]));
  stack.aidos("model", "push", file, "--name", "digits", "--manifest", join(ROOT, "models/digits/model.toml"), ...more);
}

interface Tensor {
  readonly name: string;
  readonly shape: number[];
  readonly base64?: string;
  readonly data?: number[];
}

/** Golden cases whose outputs are not what the model gives. */
export function wrongGolden(stack: Stack): string {
  const { cases } = JSON.parse(readFileSync(join(ROOT, "models/digits/golden.json"), "utf8")) as { cases: { name: string; inputs: Tensor[]; outputs: Tensor[] }[] };
  const numbers = ({ base64, data }: Tensor) => {
    if (!base64) return data ?? [];
    const bytes = Buffer.from(base64, "base64");
    return Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readFloatLE(at * 4));
  };
  const tensor = (one: Tensor, data: number[]) => ({ name: one.name, datatype: "FP32", shape: one.shape, data });
  const turned = cases.map((one) => ({
    name: one.name,
    request: { inputs: one.inputs.map((input) => tensor(input, numbers(input))) },
    response: { model_name: "digits", outputs: one.outputs.map((output) => tensor(output, [...numbers(output).slice(1), numbers(output)[0]!])) },
  }));
  const file = join(stack.folder, "golden-wrong.json");
  writeFileSync(file, JSON.stringify({ tolerance: 1e-3, cases: turned }));
  return file;
}
