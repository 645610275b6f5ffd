-- A program beside this one, with pipes: a calculator that is asked line by line, a pipeline of two
-- programs, output with a time limit, and the end of a program with its scope.
-- Notice: while one task waits for a program the others run. A read whose time is over loses nothing.
local mp = require "mpengine"
local Popen = mp.subprocess.Popen

-- A conversation: a shell answers each line with its square.
local squares = Popen{ "sh", "-c", "while read n; do echo $((n * n)); done", stdin = "pipe", stdout = "pipe" }
for n = 1, 5 do
  squares:write(n .. "\n")
  print(("%d squared is %s"):format(n, squares:read "l"))
end
squares:close_stdin()
print("the shell ended with status", squares:wait())

-- A pipeline: what the first prints is the input of the second. This side closes its copy of the pipe between.
local names = Popen{ "printf", "%s\n", "pear", "apple", "fig", stdout = "pipe" }
local sorted = Popen{ "sort", stdin = names.stdout, stdout = "pipe" }
names.stdout:close()
for line in sorted:lines() do print("sorted:", line) end

-- A time limit: half a line has come when the time is over, and is kept.
local slow <close> = Popen{ "sh", "-c", "printf 'half '; read go; echo and half", stdin = "pipe", stdout = "pipe" }
print("in time:", slow:read("l", 0.2))
slow:write "go\n"
print("later:", slow:read "l")

-- The end: leaving the scope of a <close> variable kills what still runs.
local status
do
  local sleeper <close> = Popen{ "sleep", "1000" }
  status = function() return sleeper.status end
end
print("the sleeper's status:", status())
