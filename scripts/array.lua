-- An array in shared memory: contiguous C values of one type.
-- Notice: what the processes write, the main script reads, without copying or
-- sending anything; a number that does not fit its type is an error, and
-- changes nothing. The table at the end lists the type codes.
local mp = require "mpengine"

local squares = mp.Array("i", 10)

local function fill(i)
  squares[i] = i * i
end

local processes = {}
for i = 1, #squares do
  processes[i] = mp.Process(fill, i)
  processes[i]:start()
end
for _, p in ipairs(processes) do p:join() end
print("squares: " .. table.concat(squares:totable(), " "))

local text = mp.Array("c", "shared text")
text:set_string("SHARED")
print("text:    " .. text:string())

local small = mp.Array("b", { 1, 2, 3 })
print("300 in a 'b' is refused:", not pcall(function() small[1] = 300 end), small[1])
print("outside the array is nil:", small[4])

print "\ncode  C type                 example"
for _, row in ipairs{
  { "c", "char", "x" }, { "u", "wchar_t", "é" },
  { "b", "signed char", -128 }, { "B", "unsigned char", 255 },
  { "h", "short", -32768 }, { "H", "unsigned short", 65535 },
  { "i", "int", -2147483648 }, { "I", "unsigned int", 4294967295 },
  { "l", "long", math.mininteger }, { "L", "unsigned long", math.maxinteger },
  { "q", "long long", math.mininteger }, { "Q", "unsigned long long", math.maxinteger },
  { "f", "float", 0.5 }, { "d", "double", 0.1 },
} do
  local code, ctype, example = table.unpack(row)
  local a = mp.Array(code, { example })
  print(("%-5s %-22s %s"):format(code, ctype, a[1]))
end
