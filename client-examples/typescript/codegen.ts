import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  // Another gateway's schema: GATEWAY_SCHEMA=https://gateway.example.org/graphql npm run codegen
  schema: process.env["GATEWAY_SCHEMA"] ?? "../../schema.graphql",
  documents: "../operations/*.graphql",
  generates: {
    "src/generated/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        documentMode: "string",
        importExtension: ".js",
        useTypeImports: true,
        enumsAsTypes: true,
        strictScalars: true,
        scalars: {
          AtUri: "string",
          Cid: "string",
          DateTime: "string",
          Did: "string",
          Handle: "string",
          JSON: "unknown",
          Nsid: "string",
          RecordKey: "string",
          StreamCursor: "string",
          TimeZone: "string",
          URL: "string",
        },
      },
    },
  },
};

export default config;
