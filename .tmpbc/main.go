package main
import ("fmt";"golang.org/x/crypto/bcrypt")
func main(){h,_:=bcrypt.GenerateFromPassword([]byte("pass word"),4);fmt.Println(string(h))}
