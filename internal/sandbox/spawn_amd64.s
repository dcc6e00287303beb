#include "textflag.h"

// func spawn(cl *cloneArgs, size uintptr, steps *step, n uintptr, out *outcome) uintptr
//
// The child shares the parent's memory and stack until it executes a program,
// so it touches no memory but out, pushes nothing, and calls nothing.
TEXT ·spawn(SB),NOSPLIT,$0-48
	MOVQ	cl+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	steps+16(FP), BX
	MOVQ	n+24(FP), R12
	MOVQ	out+32(FP), R13
	MOVQ	$435, AX // clone3
	SYSCALL
	TESTQ	AX, AX
	JEQ	next
	MOVQ	AX, ret+40(FP)
	RET

next:
	TESTQ	R12, R12
	JEQ	done
	MOVQ	0(BX), AX
	MOVQ	8(BX), DI
	MOVQ	16(BX), SI
	MOVQ	24(BX), DX
	MOVQ	32(BX), R10
	MOVQ	40(BX), R8
	MOVQ	48(BX), R9
	SYSCALL
	MOVQ	56(BX), CX
	CMPQ	CX, $1 // mayFail
	JEQ	ok
	CMPQ	CX, $2 // mustBeZero
	JEQ	zero
	CMPQ	AX, $0xfffffffffffff001
	JCC	fail
ok:
	ADDQ	$64, BX
	DECQ	R12
	JMP	next
zero:
	TESTQ	AX, AX
	JEQ	ok
fail:
	MOVQ	BX, 0(R13)
	MOVQ	AX, 8(R13)
	MOVQ	$127, DI
	JMP	exit
done:
	MOVQ	$0, DI
exit:
	MOVQ	$231, AX // exit_group
	SYSCALL
	JMP	exit
