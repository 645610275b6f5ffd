-- Checks that each row of the table in docs/commits.md names a test that exists.
--
--   lua5.4 tools/commits.lua      from the root
--
-- The last column has `program`: `case`, `case` for C, where program is a file below engine/ and the cases
-- are in it, or `name_spec` for a file below spec/. Prints each offence and ends with status 1 if there
-- is one.

local PAGE = "docs/commits.md"

local function output_of(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read "a"
end

-- The path of each test program and spec, by its name.
local paths = {}
for path in output_of "find engine spec -name '*_test.c' -o -name '*_spec.lua'":gmatch "%S+" do
  paths[path:match "([%w_]+)%.%w+$"] = path
end

local cases = {}
local function cases_in(path)
  if not cases[path] then
    cases[path] = {}
    for line in io.lines(path) do
      local name = line:match "^TEST[A-Z_]*%(([%w_]+)"
      if name then cases[path][name] = true end
    end
  end
  return cases[path]
end

-- What is wrong with the last cell of a row, or nil.
local function offence(cell)
  local path, named
  for name in cell:gmatch "`([%w_]+)`" do
    if name:find "_test$" or name:find "_spec$" then
      path = paths[name]
      if not path then return ("there is no %s"):format(name) end
      named = named or name:find "_spec$"
    elseif not path then
      return ("no program is named before %s"):format(name)
    elseif not cases_in(path)[name] then
      return ("%s has no case %s"):format(path, name)
    else
      named = true
    end
  end
  return not named and "no test is named" or nil
end

local number, rows, offences = 0, 0, 0
for line in io.lines(PAGE) do
  number = number + 1
  local row, cell = line:match "^(| .-)| ([^|]*) |$"
  if row and not line:find "^| structure " then
    rows = rows + 1
    local what = offence(cell)
    if what then
      offences = offences + 1
      io.stderr:write(("%s:%d: %s\n"):format(PAGE, number, what))
    end
  end
end
if rows == 0 then
  offences = 1
  io.stderr:write(PAGE, ": no table\n")
end
os.exit(offences == 0)
