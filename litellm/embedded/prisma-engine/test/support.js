'use strict';

const fs = require('node:fs');
const path = require('node:path');

/** A datamodel with one of each thing that translation must tell apart. */
const SCHEMA = `
datasource db {
  provider = "postgresql"
  url      = env("SHOP_DATABASE_URL") // the variable's name is read from here
}

// model Commented { id Int @id }
model Customer {
  id       Int      @id @default(autoincrement())
  email    String   @unique
  settings Json?
  visits   BigInt   @default(0)
  score    Float?
  balance  Decimal?
  level    Level    @default(BASIC)
  tags     String[] @default([])
  orders   Order[]
  @@unique([email, level])
}

model Order {
  number   Int      @id
  data     Json
  customer Customer? @relation(fields: [owner], references: [id])
  owner    Int?
}

enum Level {
  BASIC
  GOLD
}
`;

/** The schema that LiteLLM ships, when this checkout's virtual environment is there. */
function litellmSchema() {
  const lib = path.join(__dirname, '..', '..', '..', '..', '.venv', 'lib');
  if (!fs.existsSync(lib)) return undefined;
  const files = fs
    .readdirSync(lib)
    .map((python) => path.join(lib, python, 'site-packages', 'litellm', 'proxy', 'schema.prisma'));
  const file = files.find((candidate) => fs.existsSync(candidate));
  return file && fs.readFileSync(file, 'utf8');
}

module.exports = { SCHEMA, litellmSchema };
