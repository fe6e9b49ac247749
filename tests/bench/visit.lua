-- One visit of 525 bytes per request, each with a click ID and a time of its own.
-- In: the file of click IDs, which must be fresh, the time of the first visit, and how many bytes a visit has. Out: POST requests.
local ids, next_id, sent = {}, 0, 0
local head = '{"s":"main","i":"'
local page = ',"u":"https://www.shop.example/offer/spring?utm_source=google&utm_medium=cpc&utm_campaign=spring&utm_content=banner-a&gclid='

function init(args)
  for line in io.lines(args[1]) do ids[#ids + 1] = line end
  local start = tonumber(args[2])
  local rest = '","r":"https://www.google.com/","k":"_fbp=fb.1.1790000000000.1234567890,_gcl_au=1.1.1234567890.1790000000","f":0}'
  local fixed = #head + #ids[1] + #page + #rest + #'","t":' + 13
  -- Ad click IDs are long; this one fills the body up.
  local filler = string.rep("Cj0KCQjw", 100):sub(1, tonumber(args[3]) - fixed)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "text/plain;charset=UTF-8"
  wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
  body = function()
    next_id = next_id % #ids + 1
    sent = sent + 1
    return head .. ids[next_id] .. '","t":' .. string.format("%d", start + sent) .. page .. filler .. rest
  end
end

function request()
  return wrk.format(nil, wrk.path, nil, body())
end
